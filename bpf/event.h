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

struct event {
	/* packet */
	u64 skb;	  /* address of the struct sk_buff; of EVENT_XDP the frame's: xdp_buff.data_hard_start */
	u32 pid;	  /* tgid of the current task; that of a bystander in softirq */
	u16 cpu;
	u16 kind;
	u8 comm[16];	  /* of that task: all there is once it has exited */
	/* func */
	u64 address;	  /* of the probe, in a function; the plan's number of a tracepoint */
	u64 reason;	  /* its enum skb_drop_reason argument, 0 if it has none */
	/* time */
	u64 ktime;	  /* CLOCK_MONOTONIC, ns */
	/* flow */
	u32 netns;	  /* inode of the namespace of skb->dev, else of skb->sk */
	u32 mark;
	u32 ifindex;
	u32 mtu;
	u32 len;	  /* skb->len */
	u16 protocol;	  /* skb->protocol, network order */
	u8 l3;		  /* 4, 6, or 0 when the tuple is not known */
	u8 l4;		  /* IP protocol number */
	u8 saddr[16];	  /* IPv4 in the first four */
	u8 daddr[16];
	u16 sport;	  /* network order, 0 if l4 has none or they are in another fragment */
	u16 dport;
	u8 tcp_flags;
	u8 pad[3];
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

struct part_stack {
	u64 frames[50];	  /* return addresses, innermost first; 0 behind the last */
};

/* What the reader says of itself, in element 0 of the `reader` map. */
#define READER_AWAKE 0	 /* it looks at the ring on a timer of its own */
#define READER_DOZING 1	 /* wake it when there is a record */
#define READER_STOPPED 2 /* it wants no more records */

/* One per CPU; what the handlers themselves counted. events/record.py names them for the summary. */
struct counters {
	u64 produced;	  /* sights of matching packets: records that the handlers wanted to write */
	u64 ring_full;	  /* of those, not written: no room in the ring */
	u64 followed;	  /* addresses put into the map of tracked packets */
	u64 forgotten;	  /* taken out of it; the kernel throws out the least used when it is full */
};

#endif
