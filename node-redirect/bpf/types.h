/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ABI between the programs and the agent: what the maps hold. src/abi.rs has the twin of every struct here, with the
 * same size asserts. Addresses and l4_ports are big-endian as on the wire; ids, times and counts are the host's own.
 *
 * One table serves both address families where the key is a whole address: IPv4 is held as an IPv4-mapped address (RFC 4291
 * section 2.5.5.2), which no packet on the wire may bear. Prefixes have a table for each family: ::/0 must not match IPv4.
 */
#ifndef NODE_REDIRECT_TYPES_H
#define NODE_REDIRECT_TYPES_H

#include <linux/types.h>

/* Changes with any change of a map's key, value or meaning: an agent refuses pinned maps of another version. */
#define ABI_VERSION 3

#define MAX_GATEWAYS 16

/* Entries of `steerings`; the first is not used, as number 0 means none. */
#define STEERING_SLOTS 64
#define SHARDS 256
#define MAX_WORKERS 64
/* Outer source ports for each worker of a gateway: several, so that an underlay with equal paths still spreads. */
#define PORTS_PER_WORKER 32

/* Set by from_tunnel and seen by to_pod on the same node: this packet came back through a gateway. */
#define MARK_FROM_TUNNEL 0x65677701

/* A destination's action is a policy id, 1 to 2^24 - 1, or this. */
#define ACTION_EXCLUDE 0

/* ::ffff:a.b.c.d for IPv4. Words, as the stack's frames and the maps' keys are aligned to no more. */
struct address {
	__be32 words[4];
};

/* Index of what a policy has for each. */
enum family {
	FAMILY_IPV4 = 0,
	FAMILY_IPV6,
	FAMILY_COUNT,
};

enum failure_mode {
	FAILURE_CLOSED = 0,
	FAILURE_OPEN = 1,
};

/* Who owns an address that speaks VXLAN on this underlay. */
enum vtep_role {
	VTEP_GATEWAY = 1,
	VTEP_NODE = 2,
};

/* How a flow began. The first packet decides. */
enum flow_kind {
	FLOW_INBOUND = 1,    /* the world opened it: never redirected, whatever the policies become */
	FLOW_REDIRECTED = 2, /* the pod opened it: leaves through policy_id's gateway */
	FLOW_PASSED = 3,     /* the pod opened it and no policy took it: its answers open nothing */
};

/* What has been seen of a flow: chooses how long it may idle. */
#define FLOW_REPLIED 0x01 /* packets went both ways */
#define FLOW_CLOSING 0x02 /* a FIN or RST was seen */

/* Why a packet got its verdict. One packet raises exactly one. src/counters.rs has each name's verdict and help text. */
enum reason {
	/* from_pod: leaves as without policy */
	REASON_NOT_IP = 0,
	REASON_NOT_SELECTED,
	REASON_EXEMPT,
	REASON_OUTSIDE_POLICY,
	REASON_EXCLUDED,
	REASON_INBOUND_FLOW,
	REASON_FAILED_OPEN,
	/* from_pod: sent to a gateway */
	REASON_REDIRECTED,
	/* from_pod: dropped */
	REASON_MALFORMED,
	REASON_FORGED_TUNNEL,
	REASON_LINK_ONLY,
	REASON_TOO_BIG,
	REASON_NO_GATEWAY,
	REASON_NO_TUNNEL,
	/* from_tunnel: delivered to the pod */
	REASON_RETURNED,
	/* from_tunnel: dropped */
	REASON_UNKNOWN_GATEWAY,
	REASON_UNKNOWN_VNI,
	REASON_MALFORMED_RETURN,
	REASON_UNKNOWN_POD,
	REASON_NO_ROUTE,
	REASON_COUNT,
};

/* Things that happen beside a packet's verdict. */
enum event {
	EVENT_FLOW_TABLE_FULL = 0,
	EVENT_COUNT,
};

/* settings[0] */
struct settings {
	__u32 abi_version;
	__u32 generation;     /* of the policy set; raised after every change of it */
	__u32 tunnel_ifindex; /* the VXLAN device; 0: there is none */
};

/* endpoints: pod address -> the set of policies that select it */
struct endpoint {
	__u32 set_id;
};

/* destinations, destinations6: longest match inside a set -> action */
struct destination_key {
	__u32 prefixlen; /* SET_BITS + the prefix's own length */
	__u32 set_id;
	__be32 daddr;
};
struct destination_key6 {
	__u32 prefixlen;
	__u32 set_id;
	struct address daddr;
};
#define SET_BITS 32

/* exempt, exempt6: longest match -> present */
struct prefix_key {
	__u32 prefixlen;
	__be32 addr;
};
struct prefix_key6 {
	__u32 prefixlen;
	struct address addr;
};

/* policies: policy id (the VNI) -> where to send */
struct policy {
	struct address gateways[MAX_GATEWAYS]; /* of the tunnel: either family carries both */
	__u16 usable;                          /* bit i: gateways[i] is healthy: flows that are on it stay */
	__u16 accepting[FAMILY_COUNT];         /* bit i: gateways[i] takes new flows, too; a draining one does not */
	__u8 gateway_count;
	__u8 failure_mode;
	__u8 steering[MAX_GATEWAYS]; /* of gateways[i]: its slot of steerings, 0: none */
};

/*
 * steerings: how a gateway spreads flows over its workers, and with which outer source ports the NIC brings a packet to each.
 * A slot is written while no policy and no flow of the generation in force names it.
 */
struct steering {
	__u64 keys[2];
	__u8 worker_of[SHARDS];
	__u16 hashes[MAX_WORKERS][PORTS_PER_WORKER]; /* upper half of the packet's hash, from which the kernel makes the port */
};

/* flows: seen from the pod, whoever opened them */
struct flow_key {
	struct address pod;
	struct address remote;
	__be16 pod_port;    /* ICMP query: its identifier */
	__be16 remote_port; /* ICMP query: ICMP_OPENED_BY_* */
	__u8 protocol;
	__u8 pad[3];
};

/* An identifier may be in use from both ends at once; who asks is part of the flow. */
#define ICMP_OPENED_BY_POD 0
#define ICMP_OPENED_BY_WORLD 1

struct flow {
	__u32 last_seen;  /* seconds of CLOCK_MONOTONIC */
	__u32 generation; /* of the policy set that chose this */
	__u32 policy_id;
	struct address gateway;
	__u8 kind;
	__u8 flags;
	__u8 reason;   /* FLOW_PASSED: why no policy took it */
	__u8 steering; /* FLOW_REDIRECTED: the gateway's slot of steerings, 0: none */
};

/* fragments: the protocol and l4_ports of a datagram, learnt from its first fragment */
struct fragment_key {
	struct address saddr;
	struct address daddr;
	__be32 id;     /* IPv4's 16 bits have those in front zero */
	__u8 protocol; /* IPv6: 0, as later fragments may not tell it (RFC 8200 section 4.5) */
	__u8 pad[3];
};
struct l4_ports {
	__be16 source;
	__be16 dest;
};
struct fragment {
	struct l4_ports ports;
	__u8 protocol;
	__u8 pad[3];
};

/* traffic: what each pod sent under each policy */
struct traffic_key {
	struct address pod;
	__u32 policy_id;
};
struct traffic {
	__u64 packets; /* as they will be on the wire, after segmentation */
	__u64 bytes;   /* of frames, as the pod handed them over */
};

_Static_assert(sizeof(struct address) == 16, "address");
_Static_assert(sizeof(struct settings) == 12, "settings");
_Static_assert(sizeof(struct endpoint) == 4, "endpoint");
_Static_assert(sizeof(struct destination_key) == 12, "destination_key");
_Static_assert(sizeof(struct destination_key6) == 24, "destination_key6");
_Static_assert(sizeof(struct prefix_key) == 8, "prefix_key");
_Static_assert(sizeof(struct prefix_key6) == 20, "prefix_key6");
_Static_assert(sizeof(struct policy) == 280, "policy");
_Static_assert(sizeof(struct steering) == 4368, "steering");
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct flow) == 32, "flow");
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");
_Static_assert(sizeof(struct l4_ports) == 4, "l4_ports");
_Static_assert(sizeof(struct fragment) == 8, "fragment");
_Static_assert(sizeof(struct traffic_key) == 20, "traffic_key");
_Static_assert(sizeof(struct traffic) == 16, "traffic");

#endif
