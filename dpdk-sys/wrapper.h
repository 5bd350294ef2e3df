/* The DPDK headers whose functions the gateway calls; build.rs lists the names that become bindings. */
#include <rte_config.h>
#include <rte_version.h>
#include <rte_errno.h>
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ethdev.h>
#include <rte_dev.h>
#include <rte_ring.h>
#include <rte_cycles.h>
#include <rte_cpuflags.h>
#include <rte_power_intrinsics.h>
#include <rte_hash.h>
#include <rte_flow.h>
#include <rte_thash.h>

/* Where the fields of an mbuf are. DPDK 22.11 has them flat, later releases nest some in unnamed
 * unions, which bindgen names by number; an offset is the same word for all. */
#include <stddef.h>
enum mbuf_offset {
	MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

/* Macros with casts, which bindgen does not read. */
static const uint64_t MBUF_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t RSS_NONFRAG_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t RSS_NONFRAG_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t RSS_NONFRAG_IPV4_SCTP = RTE_ETH_RSS_NONFRAG_IPV4_SCTP;
static const uint64_t RSS_NONFRAG_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t RSS_NONFRAG_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t RSS_NONFRAG_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t RSS_NONFRAG_IPV6_SCTP = RTE_ETH_RSS_NONFRAG_IPV6_SCTP;
static const uint64_t RSS_NONFRAG_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* rte_errno is a macro over thread-local storage. */
static inline int last_errno(void) { return rte_errno; }

/* A flow rule: TCP or UDP whose destination port, masked, has a value goes to a queue. Built in C because
 * the pattern items have unions whose names in Rust
 * differ between DPDK releases; their names in C do not. Numbers are in host order. */
#include <stdbool.h>
struct l4_port_rule {
	bool is_v6;
	bool is_tcp;
	bool has_vlan;
	uint16_t value;
	uint16_t mask;
	uint16_t queue;
};

struct l4_port_flow {
	struct rte_flow_attr attr;
	struct rte_flow_item_tcp tcp, tcp_mask;
	struct rte_flow_item_udp udp, udp_mask;
	struct rte_flow_action_queue queue;
	struct rte_flow_item pattern[5];
	struct rte_flow_action actions[2];
};

static inline void l4_port_flow_of(struct l4_port_flow *flow, const struct l4_port_rule *rule)
{
	struct rte_flow_item *item = flow->pattern;

	memset(flow, 0, sizeof(*flow));
	flow->attr.ingress = 1;
	flow->tcp.hdr.dst_port = flow->udp.hdr.dst_port = rte_cpu_to_be_16(rule->value);
	flow->tcp_mask.hdr.dst_port = flow->udp_mask.hdr.dst_port = rte_cpu_to_be_16(rule->mask);
	flow->queue.index = rule->queue;

	(item++)->type = RTE_FLOW_ITEM_TYPE_ETH;
	if (rule->has_vlan)
		(item++)->type = RTE_FLOW_ITEM_TYPE_VLAN;
	(item++)->type = rule->is_v6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4;
	item->type = rule->is_tcp ? RTE_FLOW_ITEM_TYPE_TCP : RTE_FLOW_ITEM_TYPE_UDP;
	item->spec = rule->is_tcp ? (const void *)&flow->tcp : (const void *)&flow->udp;
	item->mask = rule->is_tcp ? (const void *)&flow->tcp_mask : (const void *)&flow->udp_mask;
	(++item)->type = RTE_FLOW_ITEM_TYPE_END;

	flow->actions[0].type = RTE_FLOW_ACTION_TYPE_QUEUE;
	flow->actions[0].conf = &flow->queue;
	flow->actions[1].type = RTE_FLOW_ACTION_TYPE_END;
}

static inline int l4_port_rule_validate(uint16_t port, const struct l4_port_rule *rule,
					struct rte_flow_error *error)
{
	struct l4_port_flow flow;

	l4_port_flow_of(&flow, rule);
	return rte_flow_validate(port, &flow.attr, flow.pattern, flow.actions, error);
}

static inline struct rte_flow *l4_port_rule_create(uint16_t port, const struct l4_port_rule *rule,
						   struct rte_flow_error *error)
{
	struct l4_port_flow flow;

	l4_port_flow_of(&flow, rule);
	return rte_flow_create(port, &flow.attr, flow.pattern, flow.actions, error);
}
