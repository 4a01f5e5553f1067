/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The record on the ring buffer: the one definition of the wire. events/record.py reads this file.
 *
 * The parts are ordered by how often they change, so that a slice of a record is a dictionary key to text
 * already rendered: `packet` and `func` repeat, `ktime` never does, `flow` is the same for all sights of a
 * packet that nothing rewrote. Every byte is written, pads too: a stale byte would split a key.
 */
#ifndef __PYPWRU_EVENT_H
#define __PYPWRU_EVENT_H

/* event.kind */
#define EVENT_FUNCTION 0 /* a traced function, or a raw tracepoint, saw a matching packet */
#define EVENT_TC 1	 /* a TC program did */
#define EVENT_XDP 2	 /* an XDP program did: no sk_buff yet */
#define EVENT_MAP 3	 /* a function on a BPF map was called while a tracked packet was handled */
#define EVENT_NFT_RULE 4 /* nftables: a rule spoke, a chain returned, or a policy decided */
#define EVENT_NFT_IN 5	 /* a base chain is entered */
#define EVENT_NFT_OUT 6	 /* and left, with what it returns to the hook */
#define EVENT_END 7	 /* an sk_buff that was seen is freed: no sight, and nothing but its part_identity is told */

/* In event.start_stack: the task has no memory of its own (a kernel thread, or at its end). */
#define NO_STACK_BIT 63

struct event {
	/* packet */
	u64 skb;	  /* address of the struct sk_buff; of EVENT_XDP the frame's: xdp_buff.data_hard_start */
	u32 pid;	  /* tgid of the current task; that of a bystander in softirq */
	u16 cpu;
	u16 kind;
	u8 comm[16];	  /* of that task: all there is once it has exited */
	u64 start_stack;  /* mm_struct.start_stack, which execve() draws anew; NO_STACK | its start without one */
	/* func */
	u64 address;	  /* of the probe, in a function; the plan's number of a tracepoint */
	u64 reason;	  /* its enum skb_drop_reason argument, 0 if it has none */
	/* time */
	u64 ktime;	  /* CLOCK_MONOTONIC, ns */
	/* flow */
	u32 netns;	  /* inode of the namespace of skb->dev, else of skb->sk */
	u32 mark;
	u64 netns_cookie; /* of that namespace, and never another's as an inode is; 0: not known */
	u32 ifindex;
	u32 mtu;
	u8 ifname[16];	  /* the device's name now, ended by a NUL: it may be renamed, and its ifindex given again */
	u32 len;	  /* skb->len */
	u16 protocol;	  /* skb->protocol, network order */
	u8 l3;		  /* 4, 6, or 0 when the tuple is not known */
	u8 l4;		  /* IP protocol number */
	u8 saddr[16];	  /* IPv4 in the first four */
	u8 daddr[16];
	u16 sport;	  /* network order, 0 if l4 has none or they are in another fragment */
	u16 dport;
	u8 tcp_flags;
	u8 is_message;	  /* no packet of a network, but a message of a Unix, netlink or PF_KEY socket: is_message() */
	u8 is_shared;	  /* others hold it, too: a function that drops it drops a reference, and no packet */
	u8 pad[1];
};

/*
 * What a run asks for beyond that follows the event, in this order and each at a multiple of eight bytes; a run's
 * records all have the same parts. events/wire.py lays them out; WIRE_<part> is the offset in C, defined where the
 * run has the part. After part_stack come the texts of --output-skb and --output-skb-shared-info, ended by a NUL.
 */
struct part_caller {
	u64 frames[8];	  /* where the function returns to; of a tracing program or tracepoint its stack instead */
};

struct part_cb {
	u32 words[5];	  /* __sk_buff->cb: qdisc_skb_cb.data */
	u32 pad;
};

struct part_tunnel {	  /* at inner_network_header; members as in struct event */
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
	u64 values[4];	  /* of --output-skb-metadata, or of EVENT_XDP --output-xdp-metadata, in their order */
};

struct part_map {	  /* of EVENT_MAP; zero in others */
	u32 id;
	u32 key_size;
	u32 value_size;
	u32 pad;
	u8 name[16];
	u8 key[256];
	u8 value[256];
};

/*
 * nftables: of EVENT_NFT_* what is said now, of all others the last final verdict on the packet; all zero for none.
 * Chains and rules are named by their handles, which are unique in a table, as tables' are in a namespace. A chain can
 * be renamed: above the CHAIN_HANDLE_BITS of its handle stands which of its names it had.
 */
#define CHAIN_HANDLE_BITS 48
struct part_nft {
	u64 table;
	u64 chain;
	u64 rule;	  /* 0: the policy, or the end of a chain */
	u64 target;	  /* chain of a jump or goto */
	u64 path[4];	  /* chains on the way to `chain`, the base chain first; 0 behind the last */
	u32 netns;	  /* inode */
	u32 verdict;	  /* NF_*, VERDICT_ROUTE or NFT_*, signed; of EVENT_NFT_OUT what the hook gets */
	u32 priority;	  /* of the base chain, signed */
	u8 family;	  /* NFPROTO_* of the table */
	u8 hook;	  /* NF_*_* number of the hook */
	u8 type;	  /* NFT_TRACETYPE_*: 1 policy, 2 return, 3 rule; 4 iptables-legacy; NFT_NO_RULE; 0 is nothing */
	u8 depth;	  /* how many jumps deep */
};

#define VERDICT_ROUTE 6	 /* of ebtables-legacy's table broute: the packet isn't bridged; behind NF_MAX_VERDICT */

struct part_nft_at {	  /* of runs that show rules' texts: a handle can be given from one rule to another */
	u64 ktime;	  /* when it said that; CLOCK_MONOTONIC, ns */
};

/* conntrack: what is known of the connection (struct nf_conn) that skb->_nfct points to; all zero for none. */
struct part_ct {
	u32 mark;
	u32 status;	  /* IPS_* bits */
	u8 state;	  /* enum ip_conntrack_info, plus 1 */
	u8 l3;		  /* 4 or 6; 0 where there is no tuple: untracked, or a template */
	u8 l4;		  /* IP protocol number */
	u8 pad[3];
	u16 zone;
	u16 original_sport; /* network order; of ICMP the id */
	u16 original_dport; /* of ICMP type and code, an octet each */
	u16 reply_sport;
	u16 reply_dport;
	u32 original_saddr[4]; /* IPv4 in the first */
	u32 original_daddr[4];
	u32 reply_saddr[4];
	u32 reply_daddr[4];
};

/* NFT_NAME_MAXLEN of include/uapi/linux/netfilter/nf_tables.h, the NUL at its end included. */
#define NFT_NAME_MAXLEN 256

/* In the map `nft_names`: what a chain is called. */
struct nft_key {
	u64 table;
	u64 chain;	  /* as in struct part_nft */
	u32 netns;
	u32 pad;
};

struct nft_names {
	u8 table[NFT_NAME_MAXLEN];
	u8 chain[NFT_NAME_MAXLEN];
};

/*
 * The bytes of the packet, where they are told (--output-pcap); all zero where not. They follow in chunks on the ring
 * `packets`, which are there before the event is. What is last is of this CPU.
 */
struct part_bytes {
	u32 len;	  /* of the packet, from its first byte that is told on */
	u32 caplen;	  /* so many are told: less for what is beyond the snaplen, can't be read, or had no room */
	u32 tag;	  /* that is beside it: vlan_proto << 16 | vlan_tci as numbers; 0 for none */
	u32 lost;	  /* packets so far whose bytes were wanted and had no room at all */
	u16 device;	  /* ARPHRD_* of skb->dev, NO_DEVICE without one */
	u16 queue;	  /* skb->queue_mapping */
	u8 layer;	  /* 2: from an Ethernet header on, 3: from the network header on; 0: nothing is told */
	u8 type;	  /* PACKET_*: skb->pkt_type */
	u8 first;	  /* the packet was not seen before; only where that is asked for */
	u8 pad[9];
};

#define NO_DEVICE 65535
#define NFT_NO_RULE 5	 /* a hook's function drops the packet, and none of these was it: there is nothing else in the part */

/* On the ring `packets`, in front of the bytes: which event they belong to. Those of one packet come in order. */
struct chunk {
	u64 skb;
	u64 ktime;
	u32 cpu;
	u32 size;	  /* of the bytes */
};

/*
 * Which packet it is, also once its address is given again: of all its sights, and of what is made of it (clones,
 * segments). cpu << 40 | how many were before it on that CPU, which JSON's numbers can hold; 0: not known.
 */
struct part_identity {
	u64 packet;
};

struct part_stack {
	u64 frames[50];	  /* return addresses, innermost first; 0 behind the last */
};

/* What the reader says of itself, in element 0 of the `reader` map. */
#define READER_AWAKE 0	 /* it looks at the ring on a timer of its own */
#define READER_DOZING 1	 /* wake it when there is a record */
#define READER_STOPPED 2 /* it wants no records: not yet, or no more */

/* One per CPU; what the handlers themselves counted. events/record.py names them for the summary. */
struct counters {
	u64 produced;	  /* sights of matching packets: records that the handlers wanted to write */
	u64 ring_full;	  /* of those, not written: no room in the ring */
	u64 followed;	  /* addresses put into the map of tracked packets */
	u64 forgotten;	  /* taken out of it; the kernel throws out the least used when it is full */
	u64 judged;	  /* the same of the map of verdicts that packets carry */
	u64 unjudged;
	u64 wanted;	  /* packets whose bytes were to be told */
	u64 unheard;	  /* of those, not at all: no room in a ring */
	u64 identified;	  /* packets that were given a number: the last of them */
	u64 remembered;	  /* put into the map `seen` with it, and what is made of them */
	u64 released;	  /* and taken out of it */
	u64 not_sampled;  /* of `produced`, not written: of packets that were not chosen */
	u64 throttled;	  /* of a function that had its number in that second */
	u64 over_rate;	  /* of any, in a second that had its number */
	u64 ends_lost;	  /* EVENT_END without room in the ring */
};

#endif
