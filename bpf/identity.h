/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A new packet: its number, and whether it is one of those that are shown (--sample-rate, --sample-flow). Both are
 * decided when it is first seen, which is behind all filters, and go with it from then on (seen.h).
 */
#ifndef __PYPWRU_IDENTITY_H
#define __PYPWRU_IDENTITY_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "flow.h"
#include "packet.h"

/* What goes with a packet. */
struct known {
	u64 packet; /* part_identity */
	u64 is_out; /* it is not to be shown */
};

#if IDENTIFY

#define TRIES 3

/*
 * Of this CPU, from 1 on; 0 if none can be had. An interrupt's handler can come in between, and no atomic operation
 * before Linux 5.12 tells what it has made: a number is ours alone if nobody else added one while we did.
 */
ALWAYS_INLINE u64 next_number(void)
{
	struct counters *counters = own_counters();
	volatile u64 *identified;
	u64 before, number;
	int i;

	if (!counters)
		return 0;
	identified = &counters->identified;
	for (i = 0; i < TRIES; i++) {
		before = *identified;
		__sync_fetch_and_add(&counters->identified, 1);
		number = *identified;
		if (number == before + 1)
			return number;
	}
	return 0;
}

/* Every bit of the result hangs on every bit of the value: the finalizer of MurmurHash3, by Austin Appleby. */
ALWAYS_INLINE u64 mixed(u64 value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return value ^ value >> 33;
}

#if SAMPLE_PACKETS
/*
 * Of each so many in a row on a CPU one, drawn at random (stratified sampling): which it is can't fall into step with
 * the traffic, and their share is exact. Nothing need be kept for that, since the draw is of the row's own number.
 */
ALWAYS_INLINE int is_drawn(u64 cpu, u64 number)
{
	u64 rate = KNOWN_AT_LOAD(SAMPLE_RATE), row = (number - 1) / rate;

	return mixed(mixed(cpu << 40 | row) ^ KNOWN_AT_LOAD(SAMPLE_SEED)) % rate == (number - 1) % rate;
}
#else
#define is_drawn(cpu, number) 1
#endif

#if SAMPLE_FLOWS
#define ip_to_draw_by(skb, frame) ((skb) ? ip_of_skb(skb) : ip_of_frame(frame))

ALWAYS_INLINE u64 mixed_end(u64 *address, u16 port)
{
	return mixed(address[0] ^ mixed(address[1] ^ mixed(port)));
}

/*
 * By addresses, ports and protocol, of which either end can be first; the same on every machine. What has no
 * addresses is always among them.
 */
ALWAYS_INLINE int is_flow_drawn(u64 l3)
{
	struct part_tunnel found __attribute__((aligned(8))) = {};
	u64 ends;

	if (l3)
		fill_ip(ENDS_OF(&found), l3, 0);
	if (!found.l3)
		return 1;
	ends = mixed_end((u64 *)found.saddr, found.sport) + mixed_end((u64 *)found.daddr, found.dport);
	return mixed(ends ^ mixed(found.l4)) % KNOWN_AT_LOAD(SAMPLE_FLOW) == 0;
}
#define is_flow_chosen(l3) is_flow_drawn(l3)
#else
#define is_flow_chosen(l3) 1
#define ip_to_draw_by(skb, frame) 0
#endif

/* Number a packet that was not seen before, and decide; l3: where its IP header is. */
ALWAYS_INLINE struct known new_packet(u64 l3)
{
	u64 cpu = bpf_get_smp_processor_id(), number = next_number();
	struct known known = { number ? cpu << 40 | number : 0 };

	known.is_out = !is_drawn(cpu, number) || !is_flow_chosen(l3);
	return known;
}

#else
#define new_packet(l3) ((struct known){})
#define ip_to_draw_by(skb, frame) 0
#endif
#endif
