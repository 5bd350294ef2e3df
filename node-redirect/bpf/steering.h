/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The outer UDP source port. The gateway's NIC chooses a packet's queue by it, so a gateway that tells how it spreads flows gets each
 * packet at the worker that owns its flow. One that does not gets flows spread, and hands packets over itself.
 */
#ifndef NODE_REDIRECT_STEERING_H
#define NODE_REDIRECT_STEERING_H

#include "maps.h"
#include "packet.h"

/* As the gateway numbers them in its shard hash. */
enum shard_protocol {
	SHARD_TCP = 0,
	SHARD_UDP = 1,
	SHARD_ICMP = 2,
};

/* Octets in the order of the wire, read little-endian on any machine. */
static __always_inline __u64 le32(__be32 octets)
{
	return __builtin_bswap32(bpf_ntohl(octets));
}

static __always_inline __u64 le64(const __be32 *octets)
{
	return le32(octets[0]) | le32(octets[1]) << 32;
}

/* "egress-shard-1": gateway/src/datapath/steering.rs has its definition. */
static __always_inline __u64 absorb(__u64 x, __u64 word)
{
	x = (x ^ word) * 0x9e3779b97f4a7c15;
	return x ^ x >> 32;
}

static __always_inline __u64 absorb_addresses(__u64 x, const struct packet *packet)
{
	if (!packet->ipv6)
		return absorb(x, le32(ipv4_of(&packet->saddr)) << 32 | le32(ipv4_of(&packet->daddr)));
	x = absorb(x, le64(&packet->saddr.words[0]));
	x = absorb(x, le64(&packet->saddr.words[2]));
	x = absorb(x, le64(&packet->daddr.words[0]));
	return absorb(x, le64(&packet->daddr.words[2]));
}

static __always_inline __u64 finish(__u64 x, __u64 key)
{
	x = (x ^ key) * 0xbf58476d1ce4e5b9;
	x ^= x >> 32;
	return x * 0x94d049bb133111eb;
}

/* What the shard hash takes beside the addresses. False: the gateway has no owner for such a packet. */
static __always_inline bool l4_word(const struct packet *packet, __u64 *word)
{
	__u64 protocol, id;

	if (packet->fragment) {
		id = packet->ipv6 ? bpf_ntohl(packet->id) : bpf_ntohs(packet->id);
		*word = id << 32 | packet->fragment_protocol;
		return true;
	}
	if (packet->protocol == IPPROTO_TCP)
		protocol = SHARD_TCP;
	else if (packet->protocol == IPPROTO_UDP)
		protocol = SHARD_UDP;
	else if (packet->icmp_kind == ICMP_REQUEST || packet->icmp_kind == ICMP_REPLY)
		protocol = SHARD_ICMP;
	else
		return false;
	*word = (__u64)bpf_ntohs(packet->ports.source) << 48 | (__u64)bpf_ntohs(packet->ports.dest) << 32 | protocol;
	return true;
}

/* Zero: not steered. */
static __always_inline __u32 steered_hash(const struct packet *packet, __u32 slot)
{
	const struct steering *steering = bpf_map_lookup_elem(&steerings, &slot);
	__u64 word, x;
	__u32 worker;

	if (!steering || !l4_word(packet, &word))
		return 0;
	x = finish(absorb(absorb_addresses(steering->keys[0], packet), word), steering->keys[1]);
	worker = steering->worker_of[x >> 56] & (MAX_WORKERS - 1);
	/* Which of the worker's ports: by bits that had no part in choosing it. */
	return (__u32)steering->hashes[worker][x >> 40 & (PORTS_PER_WORKER - 1)] << 16;
}

static __always_inline __u32 spread_hash(const struct packet *packet)
{
	/* Fragments of one datagram need not tell the same protocol in IPv6. */
	__u32 hash = packet->fragment ? 0 : packet->protocol;

	hash = mix_address(mix_address(hash, &packet->saddr), &packet->daddr);
	if (packet->fragment)
		hash = mix(hash, bpf_ntohl(packet->id));
	else
		hash = mix(hash, (__u32)bpf_ntohs(packet->ports.source) << 16 | bpf_ntohs(packet->ports.dest));
	return hash & 0xffff0000;
}

/*
 * The kernel makes the port of a hash `x << 16`: low end of the range + (x * size of the range >> 16). Constant for a flow, and the
 * same for all fragments of a datagram. `flow`: the packet itself, or of an ICMP error a packet of the flow that it is about.
 */
static __always_inline void set_outer_port(struct __sk_buff *skb, const struct packet *packet, const struct packet *flow,
					   __u32 slot)
{
	__u32 hash = slot ? steered_hash(flow, slot) : 0;

	if (!hash)
		hash = spread_hash(packet);
	/* Zero would mean "not hashed", and the kernel would compute its own. */
	bpf_set_hash(skb, hash ? hash : 1 << 16);
}

#endif
