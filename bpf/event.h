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

struct event {
	/* packet */
	u64 skb;	  /* address of the struct sk_buff */
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

/* What the reader says of itself, in element 0 of the `reader` map. */
#define READER_AWAKE 0	 /* it looks at the ring on a timer of its own */
#define READER_DOZING 1	 /* wake it when there is a record */
#define READER_STOPPED 2 /* it wants no more records */

/* One per CPU; what the handlers themselves counted. events/record.py names them for the summary. */
struct counters {
	u64 produced;	  /* sights of matching packets: records that the handlers wanted to write */
	u64 ring_full;	  /* of those, not written: no room in the ring */
};

#endif
