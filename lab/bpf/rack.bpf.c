// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The VLANs of the rack's switch, at tc ingress of each of its ports: what comes in a VLAN goes out of a port in another. In eBPF because a
 * kernel may have neither bridges nor interfaces with VLANs.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN_ID 0x0fff

/* VLAN 0: untagged. */
struct way {
	__u32 to_port; /* its index; 0: there is no such way */
	__u16 from_vlan;
	__u16 to_vlan;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct way);
} ways SEC(".maps");

static __always_inline int go(struct __sk_buff *skb, const struct way *way)
{
	if (way->from_vlan && bpf_skb_vlan_pop(skb))
		return TC_ACT_SHOT;
	if (way->to_vlan && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), way->to_vlan))
		return TC_ACT_SHOT;
	return bpf_redirect(way->to_port, 0);
}

SEC("tc")
int rack(struct __sk_buff *skb)
{
	__u16 vlan = skb->vlan_present ? skb->vlan_tci & VLAN_ID : 0;
	__u32 one = 0, other = 1;
	const struct way *way;

	way = bpf_map_lookup_elem(&ways, &one);
	if (way && way->to_port && way->from_vlan == vlan)
		return go(skb, way);
	way = bpf_map_lookup_elem(&ways, &other);
	if (way && way->to_port && way->from_vlan == vlan)
		return go(skb, way);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
