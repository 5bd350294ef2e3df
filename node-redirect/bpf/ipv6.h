/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The IPv6 header and the extension headers behind it (RFC 8200). */
#ifndef NODE_REDIRECT_IPV6_H
#define NODE_REDIRECT_IPV6_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

/* RFC 8200 section 4.1 recommends seven at most, with the destination options twice. */
#define MAX_EXTENSIONS 7

#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_OFFSET 0xfff8

/* The least of each; `offset` and `id` are the fragment header's. */
struct extension {
	__u8 next;
	__u8 length; /* in units of eight bytes, less the first */
	union {
		__be16 offset;
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
	};
	__be32 id;
};

/* Authentication and ESP headers are protocols here, as in IPv4: there is no l4_port to trust behind them. */
static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS;
}

/*
 * To the L4 header. What cannot be followed is opaque: too many headers; a cut one; a second fragment header; segments left, so that
 * the destination is not the last one; and a later fragment that begins with the rest of such headers, or seems to.
 */
static __always_inline void walk_extensions(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct extension header;
	__u16 fragment;

	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		packet->l4_offset = offset;
		if (!is_extension(packet->protocol))
			return;
		if (!packet->first || bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
			break;
		if (packet->protocol == IPPROTO_ROUTING && header.segments_left)
			break;
		offset += sizeof(header);
		if (packet->protocol == IPPROTO_FRAGMENT) {
			if (packet->fragment)
				break;
			fragment = bpf_ntohs(header.offset);
			packet->fragment = fragment & (IPV6_OFFSET | IPV6_MORE_FRAGMENTS);
			packet->first = !(fragment & IPV6_OFFSET);
			packet->id = header.id;
			packet->fragment_protocol = header.next;
		} else {
			offset += header.length * 8;
		}
		packet->protocol = header.next;
	}
	packet->opaque = true;
}

static __always_inline void take_ipv6_fields(struct __sk_buff *skb, const struct ipv6hdr *ip, __u32 offset,
					     struct packet *packet)
{
	__builtin_memcpy(&packet->saddr, &ip->saddr, sizeof(packet->saddr));
	__builtin_memcpy(&packet->daddr, &ip->daddr, sizeof(packet->daddr));
	packet->ipv6 = true;
	packet->first = true;
	packet->protocol = ip->nexthdr;
	walk_extensions(skb, offset + sizeof(*ip), packet);
}

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr ip;
	__u32 payload, frame = skb->len - ETH_HLEN, end;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return PARSED_BAD_L3;
	payload = bpf_ntohs(ip.payload_len);
	/* A TCP burst beyond 64 KiB ("BIG TCP") has no payload length until it is segmented. */
	if (!payload && skb->gso_segs)
		payload = frame - sizeof(ip);
	if (ip.version != 6 || payload > frame - sizeof(ip))
		return PARSED_BAD_L3;
	take_ipv6_fields(skb, &ip, ETH_HLEN, packet);
	/* IPv4's own in our tables, and no address of a packet on any wire. */
	if (is_ipv4(&packet->saddr) || is_ipv4(&packet->daddr))
		return PARSED_BAD_L3;
	end = ETH_HLEN + sizeof(ip) + payload;
	if (packet->l4_offset > end)
		packet->opaque = true;
	else
		packet->l4_length = end - packet->l4_offset;
	return PARSED;
}

#endif
