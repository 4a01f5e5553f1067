/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The record on the ring buffer. This is the only definition of its layout: wire/record.py parses
 * this file.
 *
 * Members are ordered by how often they change, so that a slice of a record is a dictionary key to
 * text already rendered: `packet` and `func` repeat, `ktime` never does, `flow` is the same for all
 * events of a packet that nothing rewrote. Every byte is written, pads too: a stale byte would
 * split a key.
 */
#ifndef __PYPWRU_EVENT_H
#define __PYPWRU_EVENT_H

#include "types.h"

/* event.kind */
#define EVENT_FUNCTION 0 /* a function or raw tracepoint was called with a matching packet */
#define EVENT_TC 1	 /* a TC program ran on one */
#define EVENT_XDP 2	 /* an XDP program ran on one: no sk_buff yet */
#define EVENT_MAP 3	 /* a function on a BPF map was called while a tracked packet was handled */
#define EVENT_NFT_RULE 4 /* nftables: a rule or policy gave a verdict, or a chain returned */
#define EVENT_NFT_CHAIN_ENTRY 5 /* nftables: a base chain is entered */
#define EVENT_NFT_CHAIN_EXIT 6	/* nftables: a base chain is left; its verdict for the hook */
#define EVENT_SKB_FREE 7 /* no event: the sk_buff is freed; skb, cpu, ktime, part_packet_id */

/* In event.start_stack: the task has no mm (a kernel thread, or an exiting task). */
#define NO_MM_BIT 63

struct event {
	/* packet */
	u64 skb; /* address of struct sk_buff; for EVENT_XDP, xdp_buff.data_hard_start */
	u32 pid; /* tgid of the current task, which in softirq has nothing to do with the packet */
	u16 cpu;
	u16 kind;
	u8 comm[16];	 /* of that task: the only trace of it once it has exited */
	u64 start_stack; /* mm->start_stack, random per execve(); or NO_MM_BIT | start_boottime */
	/* func */
	u64 address; /* of the probe in a function; number of a tracepoint or BPF program */
	u64 reason;  /* enum skb_drop_reason argument of the function, 0 if it has none */
	/* time */
	u64 ktime; /* CLOCK_MONOTONIC, ns */
	/* flow */
	u32 netns; /* inode number of the namespace of skb->dev, else of skb->sk */
	u32 mark;
	u64 netns_cookie; /* of that namespace; never reused, as an inode number is; 0: unknown */
	u32 ifindex;
	u32 mtu;
	u8 ifname[16]; /* now: a device may be renamed, and its ifindex reused; NUL-terminated */
	u32 len;       /* skb->len */
	u16 protocol;  /* skb->protocol, network byte order */
	u8 l3;	       /* 4, 6, or 0 if the tuple is unknown */
	u8 l4;	       /* IP protocol number */
	u8 saddr[16];  /* IPv4 in the first four bytes */
	u8 daddr[16];
	u16 sport; /* network byte order; 0 if l4 has no ports, or in a later fragment */
	u16 dport;
	u8 tcp_flags;
	u8 is_message; /* a message of a Unix, netlink or PF_KEY socket: is_message() */
	u8 is_shared;  /* others have a reference, too: a drop of it drops the reference alone */
	u8 pad[1];
};

/*
 * The parts that the options of a run add. They follow the event in this order, each at a multiple
 * of eight bytes; all records of a run have the same parts. wire/layout.py lays them out;
 * WIRE_<part> is the offset in C, WIRE_SIZE_<part> the size, 0 if the run does not have the part:
 * HAS_PART() of parts.h. After part_stack come the texts of --output-skb and
 * --output-skb-shared-info, NUL-terminated.
 */
struct part_caller {
	u64 frames[8]; /* return address of the function, or its stack: fill_caller() */
};

struct part_cb {
	u32 words[5]; /* __sk_buff->cb: qdisc_skb_cb.data */
	u32 pad;
};

struct part_tunnel { /* inner headers, at inner_network_header; members as in struct event */
	u8 saddr[16];
	u8 daddr[16];
	u16 sport;
	u16 dport;
	u8 l3;
	u8 l4;
	u8 tcp_flags;
	u8 pad;
};

struct part_metadata {
	u64 values[4]; /* of --output-skb-metadata (EVENT_XDP: --output-xdp-metadata), in order */
};

struct part_map { /* of EVENT_MAP; zero in others */
	u32 id;
	u32 key_size;
	u32 value_size;
	u32 pad;
	u8 name[16];
	u8 key[256];
	u8 value[256];
};

/*
 * nftables: in EVENT_NFT_* what this record is about, in all others the last final verdict on the
 * packet; all zero: none. Tables, chains and rules are named by their handles. A table's is unique
 * in its namespace, a chain's and a rule's in its table. A chain can be renamed: the bits of
 * `chain` from CHAIN_HANDLE_BITS on are a hash that differs between its names.
 */
#define CHAIN_HANDLE_BITS 48
struct part_nft {
	u64 table;
	u64 chain;
	u64 rule;	  /* 0: the policy, or the end of a chain */
	u64 target;	  /* chain of a jump or goto */
	u64 jump_path[4]; /* chains on the jump stack below `chain`, base chain first; then 0 */
	u32 netns;	  /* inode number */
	u32 verdict;	  /* NF_*, VERDICT_ROUTE or NFT_*, signed; at a chain exit, for the hook */
	u32 priority;	  /* of the base chain, signed */
	u8 family;	  /* NFPROTO_* of the table */
	u8 hook;	  /* NF_*_*, number of the hook */
	u8 type;	  /* NFT_TRACETYPE_* (1 to 3); 4: iptables-legacy; NFT_NO_RULE; 0: none */
	u8 depth;	  /* number of jumps from the base chain */
};

/*
 * Behind NF_MAX_VERDICT: by a DROP in ebtables-legacy's table broute the packet is routed, not
 * bridged.
 */
#define VERDICT_ROUTE 6

struct part_nft_time { /* in runs that print rule texts: the handle of a rule can be reused */
	u64 ktime;     /* of the verdict; CLOCK_MONOTONIC, ns */
};

/*
 * conntrack: the connection (struct nf_conn) that skb->_nfct points to; all zero if there is none.

 */
struct part_ct {
	u32 mark;
	u32 status; /* IPS_* bits */
	u8 state;   /* enum ip_conntrack_info, plus 1 */
	u8 l3;	    /* 4 or 6; 0 if there is no tuple: untracked, or a template */
	u8 l4;	    /* IP protocol number */
	u8 pad[3];
	u16 zone;
	u16 original_sport; /* network byte order; the id for ICMP */
	u16 original_dport; /* type and code for ICMP, one byte each */
	u16 reply_sport;
	u16 reply_dport;
	u32 original_saddr[4]; /* IPv4 in the first */
	u32 original_daddr[4];
	u32 reply_saddr[4];
	u32 reply_daddr[4];
};

/* NFT_NAME_MAXLEN of include/uapi/linux/netfilter/nf_tables.h, with the terminating NUL. */
#define NFT_NAME_MAXLEN 256

/* Key of the map `nft_names`. Its values are the names of chains. */
struct nft_key {
	u64 table;
	u64 chain; /* as in struct part_nft */
	u32 netns;
	u32 pad;
};

struct nft_names {
	u8 table[NFT_NAME_MAXLEN];
	u8 chain[NFT_NAME_MAXLEN];
};

/*
 * Packet data (--output-pcap); all zero if none is captured at this event. The bytes are in chunks
 * on the ring `packets`, which are submitted before the event is.
 */
struct part_bytes {
	u32 len;    /* length of the packet from the first captured byte on */
	u32 caplen; /* captured: not those beyond the snaplen, unreadable, or without room */
	u32 tag;  /* accelerated VLAN tag: vlan_proto << 16 | vlan_tci, host byte order; 0: none */
	u32 lost; /* captures of this CPU so far that were lost entirely, for lack of room */
	u16 device; /* ARPHRD_* of skb->dev, or NO_DEVICE */
	u16 queue;  /* skb->queue_mapping */
	u8 layer;   /* captured from the Ethernet (2) or network (3) header on; 0: not */
	u8 type;    /* PACKET_*: skb->pkt_type */
	u8 first;   /* this is the packet's first event; 0 in runs that don't detect it */
	u8 pad[9];
};

#define NO_DEVICE 65535
/* part_nft.type: a hook dropped the packet, none of these verdicts did; all else is zero. */
#define NFT_NO_RULE 5

/*
 * On the ring `packets`, in front of the bytes: the event that they belong to. A packet's chunks
 * are in order.
 */
struct chunk {
	u64 skb;
	u64 ktime;
	u32 cpu;
	u32 size; /* bytes that follow */
};

/*
 * Packet id: the same in all events of a packet and of its clones, copies and segments, and not
 * reused as the address of an sk_buff is. cpu << 40 | sequence number on that CPU, which numbers of
 * JSON can hold; never 0.
 */
struct part_packet_id {
	u64 id;
};

struct part_stack {
	u64 frames[50]; /* return addresses, innermost first; 0 behind the last */
};

/* State of the reader, in element 0 of the map `reader`. */
#define READER_AWAKE 0	 /* it polls the ring on a timer */
#define READER_DOZING 1	 /* it sleeps: wake it when a record is written */
#define READER_STOPPED 2 /* it takes no records: not yet, or no more */

/* Per CPU: counters of the handlers. wire/record.py takes their names from here. */
struct counters {
	u64 produced;	       /* events of matching packets, written or not */
	u64 ring_full;	       /* of `produced`, not written: no room in the ring */
	u64 tracked_added;     /* inserted into the map `tracked` */
	u64 tracked_removed;   /* removed from it by handlers; the kernel evicts others when full */
	u64 verdict_added;     /* the same for the map `verdicts`: inserted */
	u64 verdict_removed;   /* and removed */
	u64 capture_requested; /* captures of packet data */
	u64 capture_no_room;   /* of those, lost entirely: no room in a ring */
	u64 id_assigned;       /* packet ids assigned: the last sequence number */
	u64 id_inserted;       /* inserted into the map `seen`, also for clones, copies, segments */
	u64 id_removed;	       /* removed from it by handlers */
	u64 not_sampled;       /* of `produced`, not written: the packet is not sampled */
	u64 throttled;	       /* of `produced`, not written: over --max-hits of the function */
	u64 over_rate;	       /* of `produced`, not written: over --rate-limit */
	u64 free_records_lost; /* EVENT_SKB_FREE records without room in the ring */
};

#endif
