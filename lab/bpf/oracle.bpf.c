// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The oracle: classes and counts every packet that arrives through one exit, at tc ingress of the peer of the exit's device.
 *
 * It judges by what is on the wire alone and knows nothing of sessions, so that it cannot share a mistake with what it watches. It loses
 * nothing: what the device counts as received, a class counts too (a capture would drop under load).
 */
#include "packet.h"

#include <linux/pkt_cls.h>

#define VXLAN_HEADER 8
#define ARP_HEADER 8

/* linux/icmp.h and linux/icmpv6.h want the C library's headers, which are not there for this target */
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_LAST_ERROR 127 /* RFC 4443 section 2.1 */
#define MLD_FIRST 130
#define MLD_LAST 132
#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define MLD2_REPORT 143
#define ND_HOP_LIMIT 255

#define VLAN_ID 0x0fff
#define GROUP_MAC 1

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIDES);
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
	__type(key, struct address);
	__type(value, __u32);
} egress_ips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u64);
} egress_ip_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} samples SEC(".maps");

static __always_inline bool is_pod(const struct exit_config *exit, const struct address *address)
{
	return within(address, &exit->pods[0]) || within(address, &exit->pods[1]);
}

static __always_inline bool is_own(const struct exit_config *exit, const struct address *address)
{
	return same(address, &exit->own[0]) || same(address, &exit->own[1]);
}

static __always_inline bool is_gateway(const struct exit_config *exit, const struct address *address)
{
	return same(address, &exit->gateway[0]) || same(address, &exit->gateway[1]);
}

static __always_inline bool is_icmp_error(const struct packet *packet, __u8 type)
{
	if (packet->version == 6)
		return type <= ICMPV6_LAST_ERROR;
	switch (type) {
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return true;
	}
	return false;
}

/* ICMP errors carry the head of the packet they complain about: a pod's address in there leaks just as well. */
static __always_inline bool quotes_pod(struct __sk_buff *skb, const struct exit_config *exit, const struct packet *packet)
{
	__be16 ether_type = packet->version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	struct packet quoted;
	__u8 type;

	return is_icmp(packet) && !packet->later_fragment && !bpf_skb_load_bytes(skb, packet->l4, &type, sizeof(type)) &&
	       is_icmp_error(packet, type) && read_packet(skb, ether_type, packet->l4 + ICMP_HEADER, &quoted) &&
	       (is_pod(exit, &quoted.source) || is_pod(exit, &quoted.destination));
}

static __always_inline bool is_tunnel(struct __sk_buff *skb, const struct exit_config *exit, const struct packet *packet)
{
	struct udphdr udp;

	return packet->protocol == IPPROTO_UDP && !packet->later_fragment &&
	       !bpf_skb_load_bytes(skb, packet->l4, &udp, sizeof(udp)) && udp.dest == exit->vxlan_port;
}

/* The marker of a tunnelled packet must name the pod that the inner header names and, towards the gateway, the policy in the VNI. */
static __always_inline enum packet_class judge_tunnel(struct __sk_buff *skb, const struct exit_config *exit,
						      const struct packet *outer)
{
	__u32 vxlan = outer->l4 + sizeof(struct udphdr), ethernet = vxlan + VXLAN_HEADER;
	struct marker marker;
	struct packet inner;
	__be16 ether_type;
	__u8 vni[3];

	if (bpf_skb_load_bytes(skb, vxlan + 4, vni, sizeof(vni)) ||
	    bpf_skb_load_bytes(skb, ethernet + 2 * ETH_ALEN, &ether_type, sizeof(ether_type)) ||
	    !read_packet(skb, ether_type, ethernet + ETH_HLEN, &inner))
		return UNCLASSIFIED;
	if (!find_marker(skb, &inner, &marker))
		return TUNNEL;
	if (exit->kind == GATEWAY_TUNNEL)
		return is_of(&marker, inner.version, &inner.destination) ? TUNNEL : WRONG_POD;
	if (!is_of(&marker, inner.version, &inner.source))
		return WRONG_POD;
	return (__u32)(vni[0] << 16 | vni[1] << 8 | vni[2]) == marked_policy(&marker) ? TUNNEL : WRONG_POLICY;
}

static __always_inline enum packet_class judge_node(struct __sk_buff *skb, const struct exit_config *exit,
						    const struct packet *packet)
{
	struct marker marker;

	if (is_pod(exit, &packet->source))
		return is_pod(exit, &packet->destination) ? CLUSTER : POD_ADDRESS_LEAKED;
	if (!is_own(exit, &packet->source))
		return UNCLASSIFIED;
	if (is_gateway(exit, &packet->destination) && is_tunnel(skb, exit, packet))
		return judge_tunnel(skb, exit, packet);
	if (find_marker(skb, packet, &marker) && marked_policy(&marker) != 0)
		return WRONG_POLICY;
	return NODE;
}

static __always_inline enum packet_class judge_own(struct __sk_buff *skb, const struct exit_config *exit,
						   const struct packet *packet)
{
	if (exit->kind == GATEWAY_TUNNEL && is_tunnel(skb, exit, packet))
		return judge_tunnel(skb, exit, packet);
	return is_icmp(packet) ? CONTROL : GATEWAY_OWN_ADDRESS;
}

static __always_inline enum packet_class judge_external(struct __sk_buff *skb, const struct exit_config *exit,
							const struct packet *packet)
{
	struct address source = packet->source;
	struct marker marker;
	__u32 *policy;
	__u64 *count;

	if (exit->kind != GATEWAY_EXTERNAL)
		return UNCLASSIFIED;
	policy = bpf_map_lookup_elem(&egress_ips, &source);
	if (!policy || (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP && !is_icmp(packet)))
		return UNCLASSIFIED;
	if (find_marker(skb, packet, &marker) && marked_policy(&marker) != *policy)
		return WRONG_POLICY;
	count = bpf_map_lookup_elem(&egress_ip_packets, &source);
	if (count)
		*count += 1;
	return EGRESS_IP;
}

/* What tells the neighbours who is here must be as true as the sources of packets. */
static __always_inline enum packet_class judge_claim(const struct exit_config *exit, struct address address)
{
	if (is_pod(exit, &address))
		return POD_ADDRESS_LEAKED;
	if (is_own(exit, &address) || is_link_local(&address) ||
	    (exit->kind == GATEWAY_EXTERNAL && bpf_map_lookup_elem(&egress_ips, &address)))
		return CONTROL;
	return UNCLASSIFIED;
}

static __always_inline enum packet_class judge_arp(struct __sk_buff *skb, const struct exit_config *exit)
{
	struct address address;
	__be32 sender;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + ARP_HEADER + ETH_ALEN, &sender, sizeof(sender)))
		return UNCLASSIFIED;
	map_v4(&address, sender);
	return judge_claim(exit, address);
}

/* RFC 4861 section 7.1: no router has passed it on. Solicitations claim their source or, where they have none, the address that they look
 * for duplicates of; advertisements also what they answer for. */
static __always_inline enum packet_class judge_nd(struct __sk_buff *skb, const struct exit_config *exit,
						  const struct packet *packet, __u8 type)
{
	bool no_source = is_unspecified(&packet->source);
	enum packet_class class;
	struct address target;

	if (packet->hop_limit != ND_HOP_LIMIT || type == ND_REDIRECT)
		return UNCLASSIFIED;
	class = no_source ? CONTROL : judge_claim(exit, packet->source);
	if (class != CONTROL || !(type == ND_ADVERTISEMENT || (type == ND_SOLICITATION && no_source)))
		return class;
	if (bpf_skb_load_bytes(skb, packet->l4 + ICMP_HEADER, &target, sizeof(target)))
		return UNCLASSIFIED;
	return judge_claim(exit, target);
}

/* Neighbour and listener discovery, and what else has an address that no router passes on. CLASSES: it is something else. */
static __always_inline enum packet_class judge_link(struct __sk_buff *skb, const struct exit_config *exit,
						    const struct packet *packet)
{
	bool on_link = is_link_local(&packet->source);
	__u8 type;

	if (packet->version != 6)
		return CLASSES;
	if (!is_icmp(packet) || packet->later_fragment || bpf_skb_load_bytes(skb, packet->l4, &type, sizeof(type)))
		return on_link ? UNCLASSIFIED : CLASSES;
	if (type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT)
		return judge_nd(skb, exit, packet, type);
	if ((type >= MLD_FIRST && type <= MLD_LAST) || type == MLD2_REPORT)
		/* RFC 3590: before it has an address, from none */
		return on_link || is_unspecified(&packet->source) ? CONTROL : UNCLASSIFIED;
	return on_link ? CONTROL : CLASSES;
}

static __always_inline enum packet_class judge_ip(struct __sk_buff *skb, const struct exit_config *exit)
{
	enum packet_class class;
	struct packet packet;

	if (!read_packet(skb, skb->protocol, ETH_HLEN, &packet))
		return UNCLASSIFIED;
	if (quotes_pod(skb, exit, &packet))
		return POD_ADDRESS_LEAKED;
	class = judge_link(skb, exit, &packet);
	if (class != CLASSES)
		return class;
	if (exit->kind == NODE_UPLINK)
		return judge_node(skb, exit, &packet);
	if (is_pod(exit, &packet.source) || is_pod(exit, &packet.destination))
		return POD_ADDRESS_LEAKED;
	if (is_own(exit, &packet.source))
		return judge_own(skb, exit, &packet);
	return judge_external(skb, exit, &packet);
}

/* The kernel has taken the tag out of the frame by now. */
static __always_inline bool is_in_vlan(struct __sk_buff *skb, const struct exit_config *exit)
{
	return skb->vlan_present ? exit->vlan && (skb->vlan_tci & VLAN_ID) == exit->vlan : !exit->vlan;
}

/* Where both sides are one segment, the neighbour tells to which of them a frame goes: the router is the external side's only one. */
static __always_inline bool is_to_neighbour(struct __sk_buff *skb, const struct exit_config *exit)
{
	__u8 to[ETH_ALEN];
	bool to_router = true, has_router = false;

	if (bpf_skb_load_bytes(skb, 0, to, sizeof(to)))
		return false;
	for (int i = 0; i < ETH_ALEN; i++) {
		to_router = to_router && to[i] == exit->router[i];
		has_router = has_router || exit->router[i];
	}
	return !has_router || (to[0] & GROUP_MAC) || to_router == (exit->kind == GATEWAY_EXTERNAL);
}

/* Not inlined: the verifier has enough to do with one of it. */
static __noinline enum packet_class judge(struct __sk_buff *skb, const struct exit_config *exit)
{
	if (!exit || !exit->kind || !is_in_vlan(skb, exit) || !is_to_neighbour(skb, exit))
		return UNCLASSIFIED;
	return skb->protocol == bpf_htons(ETH_P_ARP) ? judge_arp(skb, exit) : judge_ip(skb, exit);
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
	__u32 one = 0, other = 1, class;
	__u64 *count;

	class = judge(skb, bpf_map_lookup_elem(&config, &one));
	if (class == UNCLASSIFIED)
		class = judge(skb, bpf_map_lookup_elem(&config, &other));
	count = bpf_map_lookup_elem(&packets, &class);
	if (count)
		*count += 1;
	if (class >= WRONG_POLICY)
		keep_sample(skb, class);
	/* whoever comes behind decides what becomes of it */
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
