/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What to do with a pod's packet: the two-step policy look-up, the choice of a gateway, and the flow table that remembers both.
 */
#ifndef NODE_REDIRECT_POLICY_H
#define NODE_REDIRECT_POLICY_H

#include "maps.h"
#include "parse.h"

#define IPV4_BITS 32
#define IPV6_BITS 128
#define HRW_SEED 0x65677700

/* Of a policy's gateways. */
struct choice {
	struct address gateway;
	__u32 steering; /* slot, 0: none */
};

struct decision {
	__u32 reason; /* REASON_REDIRECTED, or why not */
	__u32 policy_id;
	struct choice choice;
};

/* The policy: pod -> set of policies, then exempt destinations, then (set, destination) -> action. */

/*
 * Between two look-ups of different maps: made one by the compiler, with the map in a register, the kernel could not call the map's
 * own function directly.
 */
#define stay_apart(value) asm volatile("" : "+r"(value))

static __always_inline bool is_exempt(const struct address *addr)
{
	struct prefix_key key = { .prefixlen = IPV4_BITS, .addr = ipv4_of(addr) };
	struct prefix_key6 key6 = { .prefixlen = IPV6_BITS };
	const __u32 *found;

	if (is_ipv4(addr)) {
		found = bpf_map_lookup_elem(&exempt, &key);
		stay_apart(found);
		return found;
	}
	key6.addr = *addr;
	return bpf_map_lookup_elem(&exempt6, &key6);
}

static __always_inline const __u32 *find_action(__u32 set_id, const struct address *daddr)
{
	struct destination_key key = { .prefixlen = SET_BITS + IPV4_BITS, .set_id = set_id, .daddr = ipv4_of(daddr) };
	struct destination_key6 key6 = { .prefixlen = SET_BITS + IPV6_BITS, .set_id = set_id };
	const __u32 *action;

	if (is_ipv4(daddr)) {
		action = bpf_map_lookup_elem(&destinations, &key);
		stay_apart(action);
		return action;
	}
	key6.daddr = *daddr;
	return bpf_map_lookup_elem(&destinations6, &key6);
}

/*
 * The kernel may give a replaced element of a hash map to another key at once, also while a program still reads it. So what was read
 * counts only if the key has the same element afterwards. The agent replaces each once in a change: a second read does it.
 */
#define READS 3

/* The set of policies that select a pod. Returns enum reason: REASON_REDIRECTED when there is one. */
static __always_inline int find_set(const struct address *pod, __u32 *set_id)
{
	const struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, pod), *still;

	for (int i = 0; i < READS; i++) {
		if (!endpoint)
			return REASON_NOT_SELECTED;
		*set_id = *(const volatile __u32 *)&endpoint->set_id;
		still = bpf_map_lookup_elem(&endpoints, pod);
		if (still == endpoint)
			return REASON_REDIRECTED;
		endpoint = still;
	}
	return REASON_NO_GATEWAY;
}

/*
 * Highest random weight: each pod ranks the gateways in its own order and takes the first that is usable, so adding or losing
 * one moves only the pods that rank it first. `kept` (none: NULL) stays while it is usable: a live flow does not move.
 */
static __always_inline int rank_gateways(const struct policy *policy, const struct address *pod,
					 const struct address *kept, struct choice *chosen)
{
	__u32 pod_hash = mix_address(HRW_SEED, pod), best_weight = 0, weight;
	__u16 accepting = policy->accepting[is_ipv4(pod) ? FAMILY_IPV4 : FAMILY_IPV6];
	const struct address *gateway;
	bool found = false;

	for (int i = 0; i < MAX_GATEWAYS; i++) {
		if (i >= policy->gateway_count || !(policy->usable & 1 << i))
			continue;
		gateway = &policy->gateways[i];
		if (kept && is_equal(gateway, kept)) {
			chosen->gateway = *gateway;
			chosen->steering = policy->steering[i];
			return REASON_REDIRECTED;
		}
		if (!(accepting & 1 << i))
			continue;
		weight = mix_address(pod_hash, gateway);
		if (found && weight <= best_weight)
			continue;
		chosen->gateway = *gateway;
		chosen->steering = policy->steering[i];
		best_weight = weight;
		found = true;
	}
	if (found)
		return REASON_REDIRECTED;
	return policy->failure_mode == FAILURE_OPEN ? REASON_FAILED_OPEN : REASON_NO_GATEWAY;
}

/*
 * Returns enum reason. A global function, and parse another: the verifier looks at each on its own, once, and not with every state of
 * its callers.
 */
__noinline int choose_gateway(__u32 policy_id, const struct address *pod, const struct address *kept,
			      struct choice *chosen)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &policy_id), *still;
	int reason;

	if (!pod || !chosen)
		return REASON_NO_GATEWAY;
	for (int i = 0; i < READS; i++) {
		if (!policy)
			return REASON_NO_GATEWAY;
		reason = rank_gateways(policy, pod, kept, chosen);
		still = bpf_map_lookup_elem(&policies, &policy_id);
		if (still == policy)
			return reason;
		policy = still;
	}
	return REASON_NO_GATEWAY;
}

static __always_inline void decide(struct decision *decision, const struct packet *packet, const struct address *kept)
{
	const __u32 *action;
	__u32 set_id;

	decision->reason = find_set(&packet->saddr, &set_id);
	if (decision->reason != REASON_REDIRECTED)
		return;
	if (is_exempt(&packet->daddr)) {
		decision->reason = REASON_EXEMPT;
		return;
	}
	action = find_action(set_id, &packet->daddr);
	if (!action) {
		decision->reason = REASON_OUTSIDE_POLICY;
		return;
	}
	if (*action == ACTION_EXCLUDE) {
		decision->reason = REASON_EXCLUDED;
		return;
	}
	decision->policy_id = *action;
	decision->reason = choose_gateway(*action, &packet->saddr, kept, &decision->choice);
}

/* Under policy: it leaves through a gateway or not at all. */
static __always_inline bool is_taken(const struct decision *decision)
{
	return decision->reason == REASON_REDIRECTED || decision->reason == REASON_NO_GATEWAY;
}

/*
 * A pod that speaks VXLAN to a gateway, or to a node, would be taken for a node, or for a gateway. A fragment of UDP could become
 * such a packet where it is put together again, and so could what is opaque: none may pass.
 */
static __always_inline bool forges_tunnel(const struct packet *packet, __be16 vxlan_port)
{
	if (!packet->opaque && packet->protocol != IPPROTO_UDP)
		return false;
	if (!packet->opaque && !packet->fragment && packet->ports.dest != vxlan_port)
		return false;
	return is_heard_by_any_node(&packet->daddr) || bpf_map_lookup_elem(&vteps, &packet->daddr);
}

/* The flow table: first packet wins and fixes the direction. */

enum direction {
	FROM_POD,
	TO_POD,
};

static __always_inline void flow_key_of(struct flow_key *key, const struct packet *packet, enum direction direction)
{
	bool out = direction == FROM_POD;

	key->protocol = packet->protocol;
	key->pod = out ? packet->saddr : packet->daddr;
	key->remote = out ? packet->daddr : packet->saddr;
	if (is_icmp(packet)) {
		key->pod_port = packet->ports.source;
		key->remote_port = (packet->icmp_kind == ICMP_REQUEST) == out ? ICMP_OPENED_BY_POD : ICMP_OPENED_BY_WORLD;
		return;
	}
	key->pod_port = out ? packet->ports.source : packet->ports.dest;
	key->remote_port = out ? packet->ports.dest : packet->ports.source;
}

static __always_inline bool is_bare_syn(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline bool has_no_flow(const struct packet *packet)
{
	return is_icmp(packet) && packet->icmp_kind != ICMP_REQUEST && packet->icmp_kind != ICMP_REPLY;
}

/* Where a later fragment's l4_ports come from. Without them it belongs to no known flow, and the policy alone speaks. */
static __always_inline bool fragment_ports(struct packet *packet)
{
	struct fragment_key key = {
		.saddr = packet->saddr, .daddr = packet->daddr, .id = packet->id,
		.protocol = packet->ipv6 ? 0 : packet->protocol,
	};
	struct fragment first = { .ports = packet->ports, .protocol = packet->protocol };
	const struct fragment *known;

	if (packet->first) {
		bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
		return true;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known)
		return false;
	packet->ports = known->ports;
	packet->protocol = known->protocol;
	return !is_icmp(packet);
}

static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

/* Written at most once a second: CPUs that share a flow do not fight for its line. */
static __always_inline void touch(struct flow *flow, const struct packet *packet, enum direction direction)
{
	__u32 now = now_seconds();
	__u8 flags = flow->flags;
	bool is_answer = (flow->kind == FLOW_INBOUND) == (direction == FROM_POD);

	if (is_answer)
		flags |= FLOW_REPLIED;
	/* Data from the pod proves a FIN or RST wrong: anyone on the way can forge those. */
	if (packet->tcp_flags & (TCP_FIN | TCP_RST))
		flags |= FLOW_CLOSING;
	else if (direction == FROM_POD && packet->has_payload)
		flags &= ~FLOW_CLOSING;
	if (flow->last_seen != now)
		flow->last_seen = now;
	if (flow->flags != flags)
		flow->flags = flags;
}

/* The entry, for marks that are set in it, and its content of one moment. */
static __always_inline struct flow *find_flow(const struct flow_key *key, struct flow *content)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key), *still;

	for (int i = 0; i < READS; i++) {
		if (!flow)
			return NULL;
		*content = *flow;
		still = bpf_map_lookup_elem(&flows, key);
		if (still == flow)
			return flow;
		flow = still;
	}
	return NULL;
}

/*
 * An inbound flow outlives every policy change. What the pod opened is decided anew by each generation, and leaves as without
 * policy when none takes it any more.
 */
static __always_inline bool is_current(const struct flow *flow, __u32 generation)
{
	return flow->kind == FLOW_INBOUND || flow->generation == generation;
}

/* A SYN from the pod begins a connection of the pod's, even on addresses and l4_ports that an inbound one used before. */
static __always_inline bool begins_anew(const struct flow *flow, const struct packet *packet)
{
	return is_bare_syn(packet) && (flow->kind == FLOW_INBOUND || flow->flags & FLOW_CLOSING);
}

/*
 * Redirected flows are kept so that they stay on their gateway and need no prefix look-up. Flows that pass are kept only where an
 * answer could look like a first packet: TCP's never does (it is no bare SYN), ICMP's type tells, the rest would.
 */
static __always_inline bool is_worth_keeping(const struct decision *decision, const struct packet *packet)
{
	if (decision->reason == REASON_REDIRECTED)
		return true;
	if (decision->reason == REASON_EXEMPT || decision->reason == REASON_NO_GATEWAY)
		return false;
	if (packet->protocol == IPPROTO_TCP || is_icmp(packet))
		return false;
	/* to_pod makes no entries for exempt remotes: the cluster's own DNS would fill the table. */
	return decision->reason != REASON_NOT_SELECTED || !is_exempt(&packet->daddr);
}

static __always_inline void remember(const struct flow_key *key, const struct decision *decision,
				     const struct packet *packet, __u32 generation, bool known)
{
	struct flow flow = {
		.last_seen = now_seconds(),
		.generation = generation,
		.policy_id = decision->policy_id,
		.gateway = decision->choice.gateway,
		.kind = decision->reason == REASON_REDIRECTED ? FLOW_REDIRECTED : FLOW_PASSED,
		.reason = decision->reason,
		.steering = decision->choice.steering,
	};

	if (!is_worth_keeping(decision, packet)) {
		if (known)
			bpf_map_delete_elem(&flows, key);
		return;
	}
	/* Replaced as a whole, never field by field: no CPU finds one policy's id with another's gateway. */
	if (bpf_map_update_elem(&flows, key, &flow, BPF_ANY))
		count_event(EVENT_FLOW_TABLE_FULL);
}

#endif
