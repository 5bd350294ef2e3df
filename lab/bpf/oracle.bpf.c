// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The oracle: classes and counts every packet that arrives through one exit, at tc ingress of the peer of the exit's device.
 *
 * It judges by what is on the wire alone and knows nothing of sessions, so that it cannot share a mistake with what it watches. It loses
 * nothing: what the device counts as received, a class counts too (a capture would drop under load).
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "oracle.h"

#define FRAGMENT_OFFSET 0x1fff
#define VXLAN_HEADER 8
#define PING_TIMESTAMP 16
#define ARP_HEADER 8

/* linux/icmp.h and linux/icmpv6.h want the C library's headers, which are not there for this target */
#define ICMP_HEADER 8
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ND_FIRST 133 /* router solicitation */
#define ND_LAST 137 /* redirect */
#define MLD2_REPORT 143

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exit_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLASSES);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

/* Egress IP → the id of the policy that may use it at this time. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u32);
} egress_ips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u64);
} egress_ip_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} samples SEC(".maps");

static __always_inline bool is_pod(const struct exit_config *exit, __be32 address)
{
	return (address & exit->pod_mask) == exit->pod_net;
}

static __always_inline bool marker_at(struct __sk_buff *skb, __u32 offset, struct marker *marker)
{
	return !bpf_skb_load_bytes(skb, offset, marker, sizeof(*marker)) && marker->magic[0] == 'E' &&
	       marker->magic[1] == 'G' && marker->magic[2] == 'W' && marker->magic[3] == '1';
}

static __always_inline bool find_marker(struct __sk_buff *skb, __u32 l4, const struct iphdr *ip, struct marker *marker)
{
	struct tcphdr tcp;

	if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET))
		return false;
	switch (ip->protocol) {
	case IPPROTO_UDP:
		return marker_at(skb, l4 + sizeof(struct udphdr), marker);
	case IPPROTO_ICMP:
		/* ping puts its timestamp before the pattern */
		return marker_at(skb, l4 + ICMP_HEADER, marker) ||
		       marker_at(skb, l4 + ICMP_HEADER + PING_TIMESTAMP, marker);
	case IPPROTO_TCP:
		return !bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)) && marker_at(skb, l4 + tcp.doff * 4, marker);
	}
	return false;
}

static __always_inline __u32 marked_policy(const struct marker *marker)
{
	return marker->policy[0] << 16 | marker->policy[1] << 8 | marker->policy[2];
}

/* ICMP errors carry the head of the packet they complain about: a pod's address in there leaks just as well. */
static __always_inline bool quotes_pod(struct __sk_buff *skb, const struct exit_config *exit, __u32 l4, const struct iphdr *ip)
{
	struct iphdr quoted;
	__u8 type;

	if (ip->protocol != IPPROTO_ICMP || (ip->frag_off & bpf_htons(FRAGMENT_OFFSET)) ||
	    bpf_skb_load_bytes(skb, l4, &type, sizeof(type)))
		return false;
	switch (type) {
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return !bpf_skb_load_bytes(skb, l4 + ICMP_HEADER, &quoted, sizeof(quoted)) &&
		       (is_pod(exit, quoted.saddr) || is_pod(exit, quoted.daddr));
	}
	return false;
}

static __always_inline bool is_tunnel(struct __sk_buff *skb, const struct exit_config *exit, __u32 l4, const struct iphdr *ip)
{
	struct udphdr udp;

	return ip->protocol == IPPROTO_UDP && !bpf_skb_load_bytes(skb, l4, &udp, sizeof(udp)) && udp.dest == exit->vxlan_port;
}

/* The marker of a tunnelled packet must name the pod that the inner header names and, towards the gateway, the policy in the VNI. */
static __always_inline enum packet_class judge_tunnel(struct __sk_buff *skb, const struct exit_config *exit, __u32 vxlan)
{
	struct marker marker;
	struct iphdr inner;
	__u32 inner_ip = vxlan + VXLAN_HEADER + ETH_HLEN;
	__u8 vni[3];

	if (bpf_skb_load_bytes(skb, vxlan + 4, vni, sizeof(vni)) || bpf_skb_load_bytes(skb, inner_ip, &inner, sizeof(inner)))
		return UNCLASSIFIED;
	if (!find_marker(skb, inner_ip + inner.ihl * 4, &inner, &marker))
		return TUNNEL;
	if (exit->kind == GATEWAY_TUNNEL)
		return inner.daddr == marker.pod ? TUNNEL : WRONG_POD;
	if (inner.saddr != marker.pod)
		return WRONG_POD;
	return (__u32)(vni[0] << 16 | vni[1] << 8 | vni[2]) == marked_policy(&marker) ? TUNNEL : WRONG_POLICY;
}

static __always_inline enum packet_class judge_node(struct __sk_buff *skb, const struct exit_config *exit, __u32 l4,
						    const struct iphdr *ip)
{
	struct marker marker;

	if (is_pod(exit, ip->saddr))
		return is_pod(exit, ip->daddr) ? CLUSTER : POD_ADDRESS_LEAKED;
	if (ip->saddr != exit->own)
		return UNCLASSIFIED;
	if (ip->daddr == exit->gateway && is_tunnel(skb, exit, l4, ip))
		return judge_tunnel(skb, exit, l4 + sizeof(struct udphdr));
	if (find_marker(skb, l4, ip, &marker) && marked_policy(&marker) != 0)
		return WRONG_POLICY;
	return NODE;
}

static __always_inline enum packet_class judge_own(struct __sk_buff *skb, const struct exit_config *exit, __u32 l4,
						   const struct iphdr *ip)
{
	if (exit->kind == GATEWAY_TUNNEL && is_tunnel(skb, exit, l4, ip))
		return judge_tunnel(skb, exit, l4 + sizeof(struct udphdr));
	return ip->protocol == IPPROTO_ICMP ? CONTROL : GATEWAY_OWN_ADDRESS;
}

static __always_inline enum packet_class judge_external(struct __sk_buff *skb, const struct exit_config *exit, __u32 l4,
							const struct iphdr *ip)
{
	struct marker marker;
	__be32 source = ip->saddr;
	__u32 *policy;
	__u64 *count;

	if (exit->kind != GATEWAY_EXTERNAL)
		return UNCLASSIFIED;
	policy = bpf_map_lookup_elem(&egress_ips, &source);
	if (!policy || (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_ICMP))
		return UNCLASSIFIED;
	if (find_marker(skb, l4, ip, &marker) && marked_policy(&marker) != *policy)
		return WRONG_POLICY;
	count = bpf_map_lookup_elem(&egress_ip_packets, &source);
	if (count)
		*count += 1;
	return EGRESS_IP;
}

static __always_inline enum packet_class judge_ipv4(struct __sk_buff *skb, const struct exit_config *exit)
{
	struct iphdr ip;
	__u32 l4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return UNCLASSIFIED;
	l4 = ETH_HLEN + ip.ihl * 4;
	if (quotes_pod(skb, exit, l4, &ip))
		return POD_ADDRESS_LEAKED;
	if (exit->kind == NODE_UPLINK)
		return judge_node(skb, exit, l4, &ip);
	if (is_pod(exit, ip.saddr) || is_pod(exit, ip.daddr))
		return POD_ADDRESS_LEAKED;
	if (ip.saddr == exit->own)
		return judge_own(skb, exit, l4, &ip);
	return judge_external(skb, exit, l4, &ip);
}

/* Sender addresses in ARP tell the neighbours who is here: they must be as true as those in packets. */
static __always_inline enum packet_class judge_arp(struct __sk_buff *skb, const struct exit_config *exit)
{
	__be32 sender;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + ARP_HEADER + ETH_ALEN, &sender, sizeof(sender)))
		return UNCLASSIFIED;
	if (is_pod(exit, sender))
		return POD_ADDRESS_LEAKED;
	if (sender == exit->own || (exit->kind == GATEWAY_EXTERNAL && bpf_map_lookup_elem(&egress_ips, &sender)))
		return CONTROL;
	return UNCLASSIFIED;
}

/* Nodes and pods speak IPv6 on their links; nothing of it is routed. */
static __always_inline enum packet_class judge_ipv6(struct __sk_buff *skb)
{
	struct ipv6hdr ip;
	__u32 offset = ETH_HLEN + sizeof(ip);
	__u8 type;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return UNCLASSIFIED;
	if (ip.nexthdr == IPPROTO_HOPOPTS)
		offset += 8; /* router alert, before every MLD report */
	else if (ip.nexthdr != IPPROTO_ICMPV6)
		return UNCLASSIFIED;
	if (bpf_skb_load_bytes(skb, offset, &type, sizeof(type)))
		return UNCLASSIFIED;
	return (type >= ND_FIRST && type <= ND_LAST) || type == MLD2_REPORT ? CONTROL : UNCLASSIFIED;
}

static __always_inline enum packet_class judge(struct __sk_buff *skb, const struct exit_config *exit)
{
	/* the lab has no VLANs; the kernel has taken the tag out of the frame by now */
	if (skb->vlan_present)
		return UNCLASSIFIED;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_ARP):
		return judge_arp(skb, exit);
	case bpf_htons(ETH_P_IP):
		return judge_ipv4(skb, exit);
	case bpf_htons(ETH_P_IPV6):
		return judge_ipv6(skb);
	}
	return UNCLASSIFIED;
}

static __always_inline void keep_sample(struct __sk_buff *skb, __u32 class)
{
	struct sample *sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	__u32 length = skb->len;

	if (!sample)
		return;
	sample->class = class;
	sample->length = length;
	if (length > SAMPLE_BYTES)
		length = SAMPLE_BYTES;
	/* a frame is never empty; the mask tells the verifier, whom a comparison does not convince once it is in another register */
	length = ((length - 1) & (SAMPLE_BYTES - 1)) + 1;
	if (bpf_skb_load_bytes(skb, 0, sample->head, length)) {
		bpf_ringbuf_discard(sample, 0);
		return;
	}
	bpf_ringbuf_submit(sample, 0);
}

SEC("tc")
int oracle(struct __sk_buff *skb)
{
	const struct exit_config *exit;
	__u32 zero = 0, class = UNCLASSIFIED;
	__u64 *count;

	exit = bpf_map_lookup_elem(&config, &zero);
	if (exit)
		class = judge(skb, exit);
	count = bpf_map_lookup_elem(&packets, &class);
	if (count)
		*count += 1;
	if (class >= WRONG_POLICY)
		keep_sample(skb, class);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
