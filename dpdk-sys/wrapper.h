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
