/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node's side of the egress gateway, in three tc programs:
 *
 *   pod --veth--> from_pod ---> VXLAN device ---> gateway
 *   pod <--veth-- to_pod <--- from_tunnel <--- VXLAN device <--- gateway
 *
 * from_pod classifies and redirects, to_pod learns which flows the world opened, from_tunnel delivers what a gateway sent back.
 * Pods' IPv4 and IPv6 go the same way, and the tunnel may be over either: the two have nothing to do with each other.
 * A packet that no policy takes is left to the next program and the kernel, as if nothing were attached.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"
#include "address.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"
#include "steering.h"

#define AF_INET 2
#define AF_INET6 10
#define OUTER_TTL 64

/* The struct has grown with the kernel; this much of it, all that either family needs, is understood by each. */
#define TUNNEL_KEY_SIZE offsetof(struct bpf_tunnel_key, tunnel_label)

/* Set by the agent before load. */
const volatile __be16 vxlan_port = 0;
const volatile __u32 fib_flags = 0; /* BPF_FIB_LOOKUP_*: SKIP_NEIGH needs Linux 6.3 */

/* TC_ACT_UNSPEC, which tcx calls TCX_NEXT: other programs on the interface have their turn. */
static __always_inline int pass(struct __sk_buff *skb, __u32 reason)
{
	count_reason(skb, reason);
	return TC_ACT_UNSPEC;
}

static __always_inline int drop(struct __sk_buff *skb, __u32 reason)
{
	count_reason(skb, reason);
	return TC_ACT_SHOT;
}

/*
 * No outer checksum: the inner packet has its own. Over IPv6 that is for tunnels only (RFC 6935 section 5), and the far end must
 * expect it, as a gateway does. Over IPv6 nobody on the way may fragment, so there is no DF to set.
 */
static __always_inline int set_tunnel_key(struct __sk_buff *skb, __u32 policy_id, const struct address *gateway)
{
	struct bpf_tunnel_key key = { .tunnel_id = policy_id, .tunnel_ttl = OUTER_TTL };

	if (is_ipv4(gateway)) {
		key.remote_ipv4 = bpf_ntohl(ipv4_of(gateway));
		return bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT);
	}
	__builtin_memcpy(key.remote_ipv6, gateway, sizeof(key.remote_ipv6));
	return bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_TUNINFO_IPV6 | BPF_F_ZERO_CSUM_TX);
}

/* `flow`: as for set_outer_port. */
static __always_inline int send_to_gateway(struct __sk_buff *skb, const struct packet *packet, const struct packet *flow,
					   __u32 policy_id, const struct choice *choice, __u32 tunnel_ifindex)
{
	__u32 mtu = 0;
	int verdict;

	if (!tunnel_ifindex)
		return drop(skb, REASON_NO_TUNNEL);
	verdict = bpf_check_mtu(skb, tunnel_ifindex, &mtu, 0, BPF_MTU_CHK_SEGS);
	if (verdict)
		return drop(skb, verdict > 0 ? REASON_TOO_BIG : REASON_NO_TUNNEL);
	if (set_tunnel_key(skb, policy_id, &choice->gateway))
		return drop(skb, REASON_NO_TUNNEL);
	set_outer_port(skb, packet, flow, choice->steering);
	count_traffic(skb, &packet->saddr, policy_id);
	count_reason(skb, REASON_REDIRECTED);
	return bpf_redirect(tunnel_ifindex, 0);
}

static __always_inline int follow_flow(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				       __u32 tunnel_ifindex)
{
	struct choice choice = { .gateway = flow->gateway, .steering = flow->steering };

	if (flow->kind == FLOW_INBOUND)
		return pass(skb, REASON_INBOUND_FLOW);
	if (flow->kind == FLOW_REDIRECTED)
		return send_to_gateway(skb, packet, packet, flow->policy_id, &choice, tunnel_ifindex);
	return pass(skb, flow->reason);
}

/* A packet that came to the pod, as one that the pod sends in the same flow. */
static __always_inline void reverse(struct packet *packet)
{
	struct address addr = packet->saddr;
	__be16 port = packet->ports.source;

	packet->saddr = packet->daddr;
	packet->daddr = addr;
	/* An identifier belongs to both ends. */
	if (is_icmp(packet))
		return;
	packet->ports.source = packet->ports.dest;
	packet->ports.dest = port;
}

/*
 * An ICMP error belongs to the flow of the packet it quotes: the answer to an inbound one leaves as that flow does. False: it quotes
 * none that the pod can have got.
 */
static __always_inline bool find_quoted(struct __sk_buff *skb, const struct packet *error, struct packet *quoted)
{
	return !parse_quoted(skb, error, quoted) && is_equal(&quoted->daddr, &error->saddr) &&
	       is_equal(&quoted->saddr, &error->daddr);
}

static __always_inline bool is_of_inbound_flow(const struct packet *quoted)
{
	struct flow_key key = {};
	const struct flow *flow;

	flow_key_of(&key, quoted, TO_POD);
	flow = bpf_map_lookup_elem(&flows, &key);
	return flow && flow->kind == FLOW_INBOUND;
}

static __always_inline int carry_out(struct __sk_buff *skb, const struct packet *packet, const struct packet *flow,
				     const struct decision *decision, __u32 tunnel_ifindex)
{
	switch (decision->reason) {
	case REASON_REDIRECTED:
		return send_to_gateway(skb, packet, flow, decision->policy_id, &decision->choice, tunnel_ifindex);
	case REASON_NO_GATEWAY:
		return drop(skb, decision->reason);
	default:
		return pass(skb, decision->reason);
	}
}

/* Ingress of a pod's host-side interface. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet packet = {}, quoted = {};
	const struct packet *about = &packet;
	struct decision decision = {};
	struct flow_key key = {};
	struct flow *flow = NULL, content = {};
	const struct settings *set;
	__u32 zero = 0, generation;
	bool has_flow, known;
	enum parsed parsed = parse(skb, &packet);

	if (parsed == PARSED_NOT_IP)
		return pass(skb, REASON_NOT_IP);
	if (parsed == PARSED_BAD_L3)
		return drop(skb, REASON_MALFORMED);
	if (forges_tunnel(&packet, vxlan_port))
		return drop(skb, REASON_FORGED_TUNNEL);
	set = bpf_map_lookup_elem(&settings, &zero);
	if (!set)
		return drop(skb, REASON_NO_TUNNEL);
	if (parsed == PARSED_BAD_L4 || packet.icmp_kind == ICMP_LINK_ONLY) {
		decide(&decision, &packet, NULL);
		if (is_taken(&decision))
			return drop(skb, parsed == PARSED_BAD_L4 ? REASON_MALFORMED : REASON_LINK_ONLY);
		return pass(skb, decision.reason);
	}

	has_flow = !has_no_flow(&packet) && (!packet.fragment || fragment_ports(&packet));
	if (packet.icmp_kind == ICMP_ERROR && find_quoted(skb, &packet, &quoted)) {
		if (is_of_inbound_flow(&quoted))
			return pass(skb, REASON_INBOUND_FLOW);
		/* Without l4_ports its flow is not known. */
		if (quoted.first) {
			reverse(&quoted);
			quoted.fragment = false;
			about = &quoted;
		}
	}

	/* Read before the look-ups below: a decision taken while the set changes must bear the older number, to be taken again. */
	generation = *(volatile const __u32 *)&set->generation;
	if (has_flow) {
		flow_key_of(&key, &packet, FROM_POD);
		flow = find_flow(&key, &content);
	}
	known = flow;
	if (flow && begins_anew(&content, &packet))
		flow = NULL;
	if (flow && is_current(&content, generation)) {
		touch(flow, &packet, FROM_POD);
		return follow_flow(skb, &packet, &content, set->tunnel_ifindex);
	}
	decide(&decision, &packet, flow ? &content.gateway : NULL);
	if (has_flow)
		remember(&key, &decision, &packet, generation, known);
	return carry_out(skb, &packet, about, &decision, set->tunnel_ifindex);
}

static __always_inline bool opens_flow(const struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return is_bare_syn(packet);
	return !is_icmp(packet) || packet->icmp_kind == ICMP_REQUEST;
}

/* Egress of a pod's host-side interface. It judges nothing, it learns. */
SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct flow_key key = {};
	struct flow inbound = { .kind = FLOW_INBOUND };
	struct flow *flow;
	bool through_tunnel = skb->mark == MARK_FROM_TUNNEL;

	if (through_tunnel)
		skb->mark = 0;
	if (parse(skb, &packet) != PARSED || !packet.first || has_no_flow(&packet))
		return TC_ACT_UNSPEC;
	flow_key_of(&key, &packet, TO_POD);
	flow = bpf_map_lookup_elem(&flows, &key);
	/* The world may open a closed connection's addresses and l4_ports again, but not take over a live one of the pod's. */
	if (flow && !(is_bare_syn(&packet) && flow->flags & FLOW_CLOSING)) {
		touch(flow, &packet, TO_POD);
		return TC_ACT_UNSPEC;
	}
	if (through_tunnel || !opens_flow(&packet) || is_exempt(&packet.saddr))
		return TC_ACT_UNSPEC;
	inbound.last_seen = now_seconds();
	if (bpf_map_update_elem(&flows, &key, &inbound, BPF_ANY))
		count_event(EVENT_FLOW_TABLE_FULL);
	return TC_ACT_UNSPEC;
}

/* The far end of the tunnel that this packet came by, and its VNI. False: it came by none. */
static __always_inline bool read_tunnel_key(struct __sk_buff *skb, struct address *outer_source, __u32 *vni)
{
	struct bpf_tunnel_key key = {};

	/* The family must be told, and one that is not the packet's is refused. */
	if (!bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, 0))
		*outer_source = mapped(bpf_htonl(key.remote_ipv4));
	else if (!bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_TUNINFO_IPV6))
		__builtin_memcpy(outer_source, key.remote_ipv6, sizeof(*outer_source));
	else
		return false;
	*vni = key.tunnel_id;
	return true;
}

static __always_inline bool is_gateway(const struct address *addr)
{
	const __u32 *role = bpf_map_lookup_elem(&vteps, addr);

	return role && *role == VTEP_GATEWAY;
}

/*
 * Straight to the pod's interface: FORWARD is bypassed, where kube-proxy drops what conntrack has seen only one way. The route must
 * end on this node, else a packet for a pod that has just gone would follow the default route out again.
 */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup fib = { .ifindex = skb->ingress_ifindex };
	struct bpf_redir_neigh next_hop = {};
	bool is_direct;
	long found;

	if (packet->ipv6) {
		fib.family = next_hop.nh_family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &packet->saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &packet->daddr, sizeof(fib.ipv6_dst));
		__builtin_memcpy(next_hop.ipv6_nh, &packet->daddr, sizeof(next_hop.ipv6_nh));
	} else {
		fib.family = next_hop.nh_family = AF_INET;
		fib.ipv4_src = ipv4_of(&packet->saddr);
		fib.ipv4_dst = next_hop.ipv4_nh = ipv4_of(&packet->daddr);
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), fib_flags);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return drop(skb, REASON_NO_ROUTE);
	/* By way of a router the look-up has put that one's address in. */
	if (packet->ipv6)
		is_direct = is_equal((const struct address *)fib.ipv6_dst, &packet->daddr);
	else
		is_direct = fib.ipv4_dst == ipv4_of(&packet->daddr);
	if (!is_direct)
		return drop(skb, REASON_NO_ROUTE);
	skb->mark = MARK_FROM_TUNNEL;
	count_reason(skb, REASON_RETURNED);
	return bpf_redirect_neigh(fib.ifindex, &next_hop, sizeof(next_hop), 0);
}

/*
 * Ingress of the VXLAN device. Nothing goes on to the kernel's stack from here. Any inner destination MAC will do: the device marks
 * foreign ones PACKET_OTHERHOST, which only the stack looks at.
 */
SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	struct address outer_source = {};
	struct packet packet = {};
	__u32 vni = 0;

	if (!read_tunnel_key(skb, &outer_source, &vni) || !is_gateway(&outer_source))
		return drop(skb, REASON_UNKNOWN_GATEWAY);
	if (!bpf_map_lookup_elem(&policies, &vni))
		return drop(skb, REASON_UNKNOWN_VNI);
	if (parse(skb, &packet) != PARSED)
		return drop(skb, REASON_MALFORMED_RETURN);
	if (!bpf_map_lookup_elem(&endpoints, &packet.daddr))
		return drop(skb, REASON_UNKNOWN_POD);
	return deliver(skb, &packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
