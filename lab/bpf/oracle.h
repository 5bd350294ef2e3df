/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the oracle's program and src/oracle/abi.rs agree on: classes, an exit's configuration, a test's marker. */
#ifndef LAB_ORACLE_H
#define LAB_ORACLE_H

#include <linux/types.h>

/* Every packet that leaves falls into exactly one class. From WRONG_POLICY on, each is a broken promise. */
enum packet_class {
	CONTROL,		/* ARP, neighbour and listener discovery, ICMP of the gateway itself */
	EGRESS_IP,		/* source is an egress IP, of the policy that the marker (if any) names */
	NODE,			/* source is the node; the marker (if any) names no policy */
	TUNNEL,			/* VXLAN between a node and the gateway */
	CLUSTER,		/* pod to pod on another node */
	WRONG_POLICY,		/* the marker names another policy than the source address does */
	WRONG_POD,		/* inside a tunnel: the marker names another pod than the inner address does */
	GATEWAY_OWN_ADDRESS,	/* a pod's traffic with the gateway's own source address */
	POD_ADDRESS_LEAKED,	/* a pod's address as source, as destination, or quoted in an ICMP error */
	UNCLASSIFIED,		/* none of these */
	CLASSES,
};

enum exit_kind {
	GATEWAY_EXTERNAL = 1,
	GATEWAY_TUNNEL = 2,
	NODE_UPLINK = 3,
};

/* An address of either family, in network order; of IPv4 as ::ffff:192.0.2.1, so that no judgement depends on the family. */
struct address {
	__be32 words[4];
};

struct prefix {
	struct address net;
	struct address mask;
};

/* Everything has an address of each family. */
#define FAMILIES 2

struct exit_config {
	__u32 kind;				/* 0: none */
	struct address own[FAMILIES];		/* of the host behind this exit */
	struct address gateway[FAMILIES];	/* the gateway's tunnel addresses */
	struct prefix pods[FAMILIES];
	__be16 vxlan_port;
	__u16 vlan;				/* 0: untagged */
	__u8 router[6];				/* its MAC, where both sides of the gateway are one segment; else 0 */
	__u8 padding[2];
};

/* Several on one wire: what none of them may send is unclassified. */
#define SIDES 2

/* First bytes of a test's payload. 16 bytes, so that `ping -p` can carry it. */
struct marker {
	__u8 magic[4];		/* EGW1 */
	__be32 pod;		/* its IPv4 address, or the four words of its IPv6 address, xored */
	__u8 policy[3];
	__u8 generation;
	__be32 sequence;
};

#define SAMPLE_BYTES 128

/* The head of a packet that broke a promise, for whoever has to find out why. */
struct sample {
	__u32 class;
	__u32 length;
	__u8 head[SAMPLE_BYTES];
};

#endif
