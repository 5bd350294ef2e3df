/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node's side of the egress gateway, in three tc programs:
 *
 *   pod --veth--> from_pod ---> VXLAN device ---> gateway
 *   pod <--veth-- to_pod <--- from_tunnel <--- VXLAN device <--- gateway
 *
 * from_pod classifies and redirects, to_pod learns which flows the world opened, from_tunnel delivers what a gateway sent back.
 * A packet that no policy takes is left to the next program and the kernel, as if nothing were attached.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"

#define AF_INET 2
#define OUTER_TTL 64

/* The struct has grown with the kernel; this much of it, all that IPv4 needs, is understood by each. */
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
 * The outer UDP source port follows from this, and with it the gateway's RX queue: constant for a flow, and the same for all
 * fragments of a datagram. The kernel folds the hash so that only the upper half counts.
 */
static __always_inline void set_flow_hash(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 hash = mix(mix(packet->protocol, bpf_ntohl(packet->saddr)), bpf_ntohl(packet->daddr));

	if (packet->fragment)
		hash = mix(hash, bpf_ntohs(packet->id));
	else
		hash = mix(hash, (__u32)bpf_ntohs(packet->ports.source) << 16 | bpf_ntohs(packet->ports.dest));
	hash &= 0xffff0000;
	/* Zero would mean "not hashed", and the kernel would compute its own. */
	bpf_set_hash(skb, hash ? hash : 1 << 16);
}

static __always_inline int send_to_gateway(struct __sk_buff *skb, const struct packet *packet, __u32 policy_id,
					   __be32 gateway, __u32 tunnel_ifindex)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = policy_id,
		.remote_ipv4 = bpf_ntohl(gateway),
		.tunnel_ttl = OUTER_TTL,
	};
	__u32 mtu = 0;
	int verdict;

	if (!tunnel_ifindex)
		return drop(skb, REASON_NO_TUNNEL);
	verdict = bpf_check_mtu(skb, tunnel_ifindex, &mtu, 0, BPF_MTU_CHK_SEGS);
	if (verdict)
		return drop(skb, verdict > 0 ? REASON_TOO_BIG : REASON_NO_TUNNEL);
	if (bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT))
		return drop(skb, REASON_NO_TUNNEL);
	set_flow_hash(skb, packet);
	count_traffic(skb, packet->saddr, policy_id);
	count_reason(skb, REASON_REDIRECTED);
	return bpf_redirect(tunnel_ifindex, 0);
}

static __always_inline int follow_flow(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				       __u32 tunnel_ifindex)
{
	if (flow->kind == FLOW_INBOUND)
		return pass(skb, REASON_INBOUND_FLOW);
	if (flow->kind == FLOW_REDIRECTED)
		return send_to_gateway(skb, packet, flow->policy_id, flow->gateway, tunnel_ifindex);
	return pass(skb, flow->reason);
}

/* An ICMP error belongs to the flow of the packet it quotes: the answer to an inbound one leaves as that flow does. */
static __always_inline bool is_about_inbound_flow(struct __sk_buff *skb, const struct packet *error)
{
	struct packet quoted = {};
	struct flow_key key = {};
	const struct flow *flow;

	if (parse_quoted(skb, error, &quoted) || quoted.daddr != error->saddr || quoted.saddr != error->daddr)
		return false;
	flow_key_of(&key, &quoted, TO_POD);
	flow = bpf_map_lookup_elem(&flows, &key);
	return flow && flow->kind == FLOW_INBOUND;
}

static __always_inline int carry_out(struct __sk_buff *skb, const struct packet *packet, const struct decision *decision,
				     __u32 tunnel_ifindex)
{
	switch (decision->reason) {
	case REASON_REDIRECTED:
		return send_to_gateway(skb, packet, decision->policy_id, decision->gateway, tunnel_ifindex);
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
	struct packet packet = {};
	struct decision decision = {};
	struct flow_key key = {};
	struct flow *flow = NULL;
	const struct settings *set;
	__u32 zero = 0, generation;
	bool has_flow, known;
	enum parsed parsed = parse(skb, &packet);

	if (parsed == PARSED_NOT_IPV4)
		return pass(skb, REASON_NOT_IPV4);
	if (parsed == PARSED_BAD_L3)
		return drop(skb, REASON_MALFORMED);
	if (forges_tunnel(&packet, vxlan_port))
		return drop(skb, REASON_FORGED_TUNNEL);
	set = bpf_map_lookup_elem(&settings, &zero);
	if (!set)
		return drop(skb, REASON_NO_TUNNEL);
	if (parsed == PARSED_BAD_L4) {
		decide(&decision, &packet, 0);
		if (decision.reason == REASON_REDIRECTED || decision.reason == REASON_NO_GATEWAY)
			return drop(skb, REASON_MALFORMED);
		return pass(skb, decision.reason);
	}

	has_flow = !has_no_flow(&packet) && (!packet.fragment || fragment_ports(&packet));
	if (packet.icmp_kind == ICMP_ERROR && is_about_inbound_flow(skb, &packet))
		return pass(skb, REASON_INBOUND_FLOW);

	/* Read before the look-ups below: a decision taken while the set changes must bear the older number, to be taken again. */
	generation = *(volatile const __u32 *)&set->generation;
	if (has_flow) {
		flow_key_of(&key, &packet, FROM_POD);
		flow = bpf_map_lookup_elem(&flows, &key);
	}
	known = flow;
	if (flow && begins_anew(flow, &packet))
		flow = NULL;
	if (flow && is_current(flow, generation)) {
		touch(flow, &packet, FROM_POD);
		return follow_flow(skb, &packet, flow, set->tunnel_ifindex);
	}
	decide(&decision, &packet, flow ? flow->gateway : 0);
	if (has_flow)
		remember(&key, &decision, &packet, generation, known);
	return carry_out(skb, &packet, &decision, set->tunnel_ifindex);
}

static __always_inline bool opens_flow(const struct packet *packet)
{
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return is_bare_syn(packet);
	case IPPROTO_ICMP:
		return packet->icmp_kind == ICMP_REQUEST;
	default:
		return true;
	}
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
	if (through_tunnel || !opens_flow(&packet) || is_exempt(packet.saddr))
		return TC_ACT_UNSPEC;
	inbound.last_seen = now_seconds();
	if (bpf_map_update_elem(&flows, &key, &inbound, BPF_ANY))
		count_event(EVENT_FLOW_TABLE_FULL);
	return TC_ACT_UNSPEC;
}

static __always_inline bool is_from_gateway(const struct bpf_tunnel_key *key)
{
	__be32 outer_source = bpf_htonl(key->remote_ipv4);
	const __u32 *role = bpf_map_lookup_elem(&vteps, &outer_source);

	return role && *role == VTEP_GATEWAY;
}

/*
 * Straight to the pod's interface: FORWARD is bypassed, where kube-proxy drops what conntrack has seen only one way. The route must
 * end on this node, else a packet for a pod that has just gone would follow the default route out again.
 */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ipv4_src = packet->saddr,
		.ipv4_dst = packet->daddr,
		.ifindex = skb->ingress_ifindex,
	};
	struct bpf_redir_neigh next_hop = { .nh_family = AF_INET, .ipv4_nh = packet->daddr };
	long found = bpf_fib_lookup(skb, &fib, sizeof(fib), fib_flags);

	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return drop(skb, REASON_NO_ROUTE);
	if (fib.ipv4_dst != packet->daddr)
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
	struct bpf_tunnel_key key = {};
	struct packet packet = {};

	if (bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, 0) || !is_from_gateway(&key))
		return drop(skb, REASON_UNKNOWN_GATEWAY);
	if (!bpf_map_lookup_elem(&policies, &key.tunnel_id))
		return drop(skb, REASON_UNKNOWN_VNI);
	if (parse(skb, &packet) != PARSED)
		return drop(skb, REASON_MALFORMED_RETURN);
	if (!bpf_map_lookup_elem(&endpoints, &packet.daddr))
		return drop(skb, REASON_UNKNOWN_POD);
	return deliver(skb, &packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
