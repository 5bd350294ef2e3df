/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of either family in one shape: IPv4 as ::ffff:a.b.c.d. */
#ifndef NODE_REDIRECT_ADDRESS_H
#define NODE_REDIRECT_ADDRESS_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#define MAPPED_PREFIX bpf_htonl(0x0000ffff)

static __always_inline struct address mapped(__be32 ipv4)
{
	return (struct address){ .words = { 0, 0, MAPPED_PREFIX, ipv4 } };
}

static __always_inline bool is_ipv4(const struct address *addr)
{
	return addr->words[2] == MAPPED_PREFIX && !(addr->words[0] | addr->words[1]);
}

static __always_inline __be32 ipv4_of(const struct address *addr)
{
	return addr->words[3];
}

static __always_inline bool is_equal(const struct address *a, const struct address *b)
{
	return a->words[3] == b->words[3] && a->words[2] == b->words[2] && a->words[1] == b->words[1] &&
	       a->words[0] == b->words[0];
}

/*
 * Whoever listens on all its addresses hears this one, too, without its being in a table: multicast, IPv4's limited broadcast,
 * and IPv6's link-local addresses, of which every interface of a node has one.
 */
static __always_inline bool is_heard_by_any_node(const struct address *addr)
{
	__u32 first = bpf_ntohl(addr->words[0]);

	if (is_ipv4(addr))
		return bpf_ntohl(ipv4_of(addr)) >> 28 == 0xe || ipv4_of(addr) == 0xffffffff;
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6;
}

/* src/abi.rs has the twin, so that `trace` can tell the same gateway. */
static __always_inline __u32 mix(__u32 hash, __u32 value)
{
	hash ^= value;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* IPv4 in one step; its other words are the same for all. */
static __always_inline __u32 mix_address(__u32 hash, const struct address *addr)
{
	if (!is_ipv4(addr)) {
		hash = mix(hash, bpf_ntohl(addr->words[0]));
		hash = mix(hash, bpf_ntohl(addr->words[1]));
		hash = mix(hash, bpf_ntohl(addr->words[2]));
	}
	return mix(hash, bpf_ntohl(addr->words[3]));
}

#endif
