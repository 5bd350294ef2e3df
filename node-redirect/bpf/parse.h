/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes of a frame -> struct packet. Everything is read with bpf_skb_load_bytes: a pod may send frames whose headers are not
 * in the linear part, and a failed load is the truncation check.
 */
#ifndef NODE_REDIRECT_PARSE_H
#define NODE_REDIRECT_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "ipv6.h"
#include "packet.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff

static __always_inline void take_ipv4_fields(const struct iphdr *ip, struct packet *packet)
{
	__u16 frag_off = bpf_ntohs(ip->frag_off);

	packet->saddr = mapped(ip->saddr);
	packet->daddr = mapped(ip->daddr);
	packet->id = ip->id;
	packet->protocol = ip->protocol;
	packet->fragment_protocol = ip->protocol;
	packet->fragment = frag_off & (IP_MORE_FRAGMENTS | IP_OFFSET);
	packet->first = !(frag_off & IP_OFFSET);
}

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 header, total, frame = skb->len - ETH_HLEN;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return PARSED_BAD_L3;
	header = ip.ihl * 4;
	total = bpf_ntohs(ip.tot_len);
	/* A TCP burst beyond 64 KiB ("BIG TCP") has no total length until it is segmented. */
	if (!total && skb->gso_segs)
		total = frame;
	if (ip.version != 4 || header < sizeof(ip) || total < header || total > frame)
		return PARSED_BAD_L3;
	take_ipv4_fields(&ip, packet);
	packet->l4_offset = ETH_HLEN + header;
	packet->l4_length = total - header;
	return PARSED;
}

/* Returns enum parsed. */
__noinline int parse(struct __sk_buff *skb, struct packet *packet)
{
	enum parsed parsed = PARSED_NOT_IP;

	if (!packet)
		return PARSED_NOT_IP;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		parsed = parse_ipv4(skb, packet);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		parsed = parse_ipv6(skb, packet);
	if (parsed != PARSED)
		return parsed;
	/* The tag would travel along inside the tunnel, to a gateway that expects none. */
	if (skb->vlan_present)
		return PARSED_BAD_L4;
	return parse_l4(skb, packet);
}

/* What an ICMP error is about: the packet it quotes. Its l4_ports stay zero when the quote is a later fragment. */
__noinline int parse_quoted(struct __sk_buff *skb, const struct packet *error, struct packet *quoted)
{
	struct ipv6hdr ip6;
	struct iphdr ip;
	__u32 offset;

	if (!error || !quoted)
		return -1;
	offset = error->l4_offset + ICMP_HEADER;
	if (error->ipv6) {
		if (bpf_skb_load_bytes(skb, offset, &ip6, sizeof(ip6)) || ip6.version != 6)
			return -1;
		take_ipv6_fields(skb, &ip6, offset, quoted);
		if (quoted->opaque)
			return -1;
		offset = quoted->l4_offset;
	} else {
		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl * 4 < sizeof(ip))
			return -1;
		take_ipv4_fields(&ip, quoted);
		offset += ip.ihl * 4;
	}
	return quoted->first ? read_ports(skb, offset, quoted) : 0;
}

#endif
