/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes of a frame -> struct packet. Everything is read with bpf_skb_load_bytes: a pod may send frames whose headers are not
 * in the linear part, and a failed load is the truncation check.
 */
#ifndef NODE_REDIRECT_PARSE_H
#define NODE_REDIRECT_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff

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
};

struct packet {
	__be32 saddr;
	__be32 daddr;
	struct l4_ports ports; /* ICMP query: source is the identifier. Zero where there are none to read */
	__u32 l4_offset;
	__u32 l4_length;
	__be16 id;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_kind;
	bool fragment;    /* any fragment, the first included */
	bool first;       /* not a fragment, or the first one */
	bool has_payload; /* TCP only */
};

enum parsed {
	PARSED = 0,
	PARSED_NOT_IPV4,
	PARSED_BAD_L3, /* not even the addresses can be trusted */
	PARSED_BAD_L4, /* the addresses can */
};

static __always_inline __u8 icmp_kind(__u8 type)
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

static __always_inline __u32 least_l4_header(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return TCP_HEADER;
	case IPPROTO_UDP:
		return UDP_HEADER;
	case IPPROTO_ICMP:
		return ICMP_HEADER;
	case IPPROTO_SCTP:
		return SCTP_HEADER;
	default:
		return 0;
	}
}

/* The first eight bytes of the four protocols that have l4_ports or an identifier. */
static __always_inline int read_ports(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	__be16 words[4];

	if (!least_l4_header(packet->protocol))
		return 0;
	if (bpf_skb_load_bytes(skb, offset, words, sizeof(words)))
		return -1;
	if (packet->protocol == IPPROTO_ICMP) {
		packet->icmp_kind = icmp_kind(*(__u8 *)words);
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
	if (packet->l4_length < least_l4_header(packet->protocol))
		return PARSED_BAD_L4;
	if (read_ports(skb, packet->l4_offset, packet))
		return PARSED_BAD_L4;
	if (packet->protocol == IPPROTO_TCP && read_tcp_flags(skb, packet))
		return PARSED_BAD_L4;
	return PARSED;
}

static __always_inline void take_ip_fields(const struct iphdr *ip, struct packet *packet)
{
	__u16 frag_off = bpf_ntohs(ip->frag_off);

	packet->saddr = ip->saddr;
	packet->daddr = ip->daddr;
	packet->id = ip->id;
	packet->protocol = ip->protocol;
	packet->fragment = frag_off & (IP_MORE_FRAGMENTS | IP_OFFSET);
	packet->first = !(frag_off & IP_OFFSET);
}

static __always_inline enum parsed parse(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 header, total, frame = skb->len - ETH_HLEN;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return PARSED_NOT_IPV4;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return PARSED_BAD_L3;
	header = ip.ihl * 4;
	total = bpf_ntohs(ip.tot_len);
	/* A TCP burst beyond 64 KiB ("BIG TCP") has no total length until it is segmented. */
	if (!total && skb->gso_segs)
		total = frame;
	if (ip.version != 4 || header < sizeof(ip) || total < header || total > frame)
		return PARSED_BAD_L3;
	take_ip_fields(&ip, packet);
	packet->l4_offset = ETH_HLEN + header;
	packet->l4_length = total - header;
	/* The tag would travel along inside the tunnel, to a gateway that expects none. */
	if (skb->vlan_present)
		return PARSED_BAD_L4;
	return parse_l4(skb, packet);
}

/* What an ICMP error is about: the packet it quotes. Its l4_ports stay zero when the quote is a later fragment. */
static __always_inline int parse_quoted(struct __sk_buff *skb, const struct packet *error, struct packet *quoted)
{
	__u32 offset = error->l4_offset + ICMP_HEADER;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return -1;
	if (ip.version != 4 || ip.ihl * 4 < sizeof(ip))
		return -1;
	take_ip_fields(&ip, quoted);
	if (!quoted->first)
		return 0;
	return read_ports(skb, offset + ip.ihl * 4, quoted);
}

#endif
