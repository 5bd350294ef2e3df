/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reads a packet of either family into one form: addresses, upper-layer protocol and where that begins. */
#ifndef LAB_PACKET_H
#define LAB_PACKET_H

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "oracle.h"

#define FRAGMENT_OFFSET_V4 0x1fff
#define FRAGMENT_OFFSET_V6 0xfff8
#define PING_TIMESTAMP 16
#define ICMP_HEADER 8
/* more than any test sends; a packet with more is of no known protocol */
#define EXTENSIONS 6

struct packet {
	struct address source;
	struct address destination;
	__u32 l4;		/* where the upper layer begins */
	__u8 version;
	__u8 protocol;		/* of the upper layer, past all extension headers */
	__u8 hop_limit;
	bool later_fragment;	/* not the first: there is no upper-layer header */
};

static __always_inline void map_v4(struct address *address, __be32 v4)
{
	*address = (struct address){ { 0, 0, bpf_htonl(0xffff), v4 } };
}

/* RFC 4291 section 2.5.5.2: never on the wire. Here it would pass for IPv4. */
static __always_inline bool is_mapped(const struct address *address)
{
	return !(address->words[0] | address->words[1]) && address->words[2] == bpf_htonl(0xffff);
}

static __always_inline bool same(const struct address *a, const struct address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

static __always_inline bool within(const struct address *address, const struct prefix *prefix)
{
	for (int i = 0; i < 4; i++)
		if ((address->words[i] & prefix->mask.words[i]) != prefix->net.words[i])
			return false;
	return true;
}

static __always_inline bool is_link_local(const struct address *address)
{
	return (address->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_unspecified(const struct address *address)
{
	return !(address->words[0] | address->words[1] | address->words[2] | address->words[3]);
}

static __always_inline bool read_v4(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4)
		return false;
	map_v4(&packet->source, ip.saddr);
	map_v4(&packet->destination, ip.daddr);
	packet->version = 4;
	packet->l4 = offset + ip.ihl * 4;
	packet->protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	packet->later_fragment = ip.frag_off & bpf_htons(FRAGMENT_OFFSET_V4);
	return true;
}

/* One extension header, by the first four bytes that all of them share. False: `protocol` is that of the upper layer. */
static __always_inline bool skip_extension(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__u8 next;
		__u8 length; /* in units of 8 bytes, the first not counted */
		__be16 fragment;
	} header;

	switch (packet->protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_FRAGMENT:
		break;
	default:
		return false;
	}
	if (packet->later_fragment || bpf_skb_load_bytes(skb, packet->l4, &header, sizeof(header)))
		return false;
	if (packet->protocol == IPPROTO_FRAGMENT) {
		packet->later_fragment = header.fragment & bpf_htons(FRAGMENT_OFFSET_V6);
		header.length = 0; /* reserved in this one */
	}
	packet->protocol = header.next;
	packet->l4 += 8 + header.length * 8;
	return true;
}

static __always_inline bool read_v6(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	__builtin_memcpy(&packet->source, &ip.saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip.daddr, sizeof(packet->destination));
	if (is_mapped(&packet->source) || is_mapped(&packet->destination))
		return false;
	packet->version = 6;
	packet->l4 = offset + sizeof(ip);
	packet->protocol = ip.nexthdr;
	packet->hop_limit = ip.hop_limit;
	packet->later_fragment = false;
	for (int i = 0; i < EXTENSIONS; i++)
		if (!skip_extension(skb, packet))
			break;
	return true;
}

/* False: not an IP packet, not all of its header, or addresses that cannot be. */
static __always_inline bool read_packet(struct __sk_buff *skb, __be16 ether_type, __u32 offset, struct packet *packet)
{
	switch (ether_type) {
	case bpf_htons(ETH_P_IP):
		return read_v4(skb, offset, packet);
	case bpf_htons(ETH_P_IPV6):
		return read_v6(skb, offset, packet);
	}
	return false;
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline bool marker_at(struct __sk_buff *skb, __u32 offset, struct marker *marker)
{
	return !bpf_skb_load_bytes(skb, offset, marker, sizeof(*marker)) && marker->magic[0] == 'E' &&
	       marker->magic[1] == 'G' && marker->magic[2] == 'W' && marker->magic[3] == '1';
}

static __always_inline bool find_marker(struct __sk_buff *skb, const struct packet *packet, struct marker *marker)
{
	struct tcphdr tcp;

	if (packet->later_fragment)
		return false;
	/* ping puts its timestamp before the pattern */
	if (is_icmp(packet))
		return marker_at(skb, packet->l4 + ICMP_HEADER, marker) ||
		       marker_at(skb, packet->l4 + ICMP_HEADER + PING_TIMESTAMP, marker);
	if (packet->protocol == IPPROTO_UDP)
		return marker_at(skb, packet->l4 + sizeof(struct udphdr), marker);
	return packet->protocol == IPPROTO_TCP && !bpf_skb_load_bytes(skb, packet->l4, &tcp, sizeof(tcp)) &&
	       marker_at(skb, packet->l4 + tcp.doff * 4, marker);
}

static __always_inline __u32 marked_policy(const struct marker *marker)
{
	return marker->policy[0] << 16 | marker->policy[1] << 8 | marker->policy[2];
}

/* Whether the marker names the pod with this address. */
static __always_inline bool is_of(const struct marker *marker, __u8 version, const struct address *pod)
{
	if (version == 4)
		return marker->pod == pod->words[3];
	return marker->pod == (pod->words[0] ^ pod->words[1] ^ pod->words[2] ^ pod->words[3]);
}

#endif
