/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs know of a packet, and how its L4 header is read. */
#ifndef NODE_REDIRECT_PACKET_H
#define NODE_REDIRECT_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "address.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* The least that makes an L4 header usable. */
#define TCP_HEADER 20
#define UDP_HEADER 8
#define ICMP_HEADER 8
#define SCTP_HEADER 12

enum icmp_kind {
	ICMP_OTHER = 0,
	ICMP_REQUEST,
	ICMP_REPLY,
	ICMP_ERROR,
	ICMP_LINK_ONLY, /* neighbor discovery and the like: speaks of the pod's link, to whoever is on it */
};

struct packet {
	struct address saddr;
	struct address daddr;
	struct l4_ports ports; /* ICMP query: source is the identifier. Zero where there are none to read */
	__u32 l4_offset;
	__u32 l4_length;
	__be32 id; /* of the datagram that a fragment is of */
	__u8 protocol;
	__u8 fragment_protocol; /* as each fragment of the datagram tells it: extension headers may follow */
	__u8 tcp_flags;
	__u8 icmp_kind;
	bool ipv6;
	bool fragment;    /* any fragment, the first included */
	bool first;       /* not a fragment, or the first one */
	bool opaque;      /* IPv6: the protocol is not to be told, and might be any */
	bool has_payload; /* TCP only */
};

enum parsed {
	PARSED = 0,
	PARSED_NOT_IP,
	PARSED_BAD_L3, /* not even the addresses can be trusted */
	PARSED_BAD_L4, /* the addresses can */
};

/* Each family has its own; the other's number is a protocol like any. */
static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline __u8 icmpv4_kind(__u8 type)
{
	switch (type) {
	case 8: case 13: case 15: case 17:
		return ICMP_REQUEST;
	case 0: case 14: case 16: case 18:
		return ICMP_REPLY;
	case 3: case 4: case 5: case 11: case 12:
		return ICMP_ERROR;
	default:
		return ICMP_OTHER;
	}
}

/* RFC 4443; those of the link alone are RFC 4890 section 4.3.3: multicast listeners and routers, neighbor discovery, SEND. */
static __always_inline __u8 icmpv6_kind(__u8 type)
{
	switch (type) {
	case 128:
		return ICMP_REQUEST;
	case 129:
		return ICMP_REPLY;
	case 1: case 2: case 3: case 4:
		return ICMP_ERROR;
	case 130: case 131: case 132: case 133: case 134: case 135: case 136: case 137:
	case 141: case 142: case 143: case 148: case 149: case 151: case 152: case 153:
		return ICMP_LINK_ONLY;
	default:
		return ICMP_OTHER;
	}
}

static __always_inline __u32 least_l4_header(const struct packet *packet)
{
	if (is_icmp(packet))
		return ICMP_HEADER;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return TCP_HEADER;
	case IPPROTO_UDP:
		return UDP_HEADER;
	case IPPROTO_SCTP:
		return SCTP_HEADER;
	default:
		return 0;
	}
}

/* The first eight bytes of the protocols that have l4_ports or an identifier. */
static __always_inline int read_ports(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	__be16 words[4];
	__u8 type;

	if (!least_l4_header(packet))
		return 0;
	if (bpf_skb_load_bytes(skb, offset, words, sizeof(words)))
		return -1;
	if (is_icmp(packet)) {
		type = *(__u8 *)words;
		packet->icmp_kind = packet->ipv6 ? icmpv6_kind(type) : icmpv4_kind(type);
		if (packet->icmp_kind == ICMP_REQUEST || packet->icmp_kind == ICMP_REPLY)
			packet->ports.source = words[2];
		return 0;
	}
	packet->ports.source = words[0];
	packet->ports.dest = words[1];
	return 0;
}

static __always_inline int read_tcp_flags(struct __sk_buff *skb, struct packet *packet)
{
	__u8 offset_and_flags[2];
	__u32 header;

	if (bpf_skb_load_bytes(skb, packet->l4_offset + 12, offset_and_flags, sizeof(offset_and_flags)))
		return -1;
	header = (offset_and_flags[0] >> 4) * 4;
	if (header < TCP_HEADER || header > packet->l4_length)
		return -1;
	packet->tcp_flags = offset_and_flags[1];
	packet->has_payload = packet->l4_length > header;
	return 0;
}

static __always_inline enum parsed parse_l4(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet->first)
		return PARSED;
	if (packet->opaque || packet->l4_length < least_l4_header(packet))
		return PARSED_BAD_L4;
	if (read_ports(skb, packet->l4_offset, packet))
		return PARSED_BAD_L4;
	if (packet->protocol == IPPROTO_TCP && read_tcp_flags(skb, packet))
		return PARSED_BAD_L4;
	return PARSED;
}

#endif
