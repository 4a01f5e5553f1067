/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A new packet: its packet id, and whether it is sampled (--sample-rate, --sample-flow). Both are decided at its first
 * event, behind all filters, and stay with it from then on (seen.h).
 */
#ifndef __PYPWRU_IDENTITY_H
#define __PYPWRU_IDENTITY_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "flow.h"
#include "packet.h"

/* What the map `seen` keeps of a packet. */
struct known {
	u64 packet; /* packet id, as in part_identity */
	u64 is_out; /* it is not sampled: none of its events is written */
};

#if IDENTIFY

#define TRIES 3

/*
 * The next sequence number of this CPU, from 1 on; 0 on failure. An interrupt's handler can come in between, and before
 * Linux v5.12 atomic operations of BPF do not return the new value: a number is unique if nothing else has incremented
 * it in the meantime.
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

/* The 64-bit finalizer of MurmurHash3, by Austin Appleby: every bit of the result depends on every bit of the value. */
ALWAYS_INLINE u64 mixed(u64 value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return value ^ value >> 33;
}

#if SAMPLE_PACKETS
/*
 * Stratified sampling: of SAMPLE_RATE successive packets of a CPU one is drawn at random. So the draw can't fall into
 * step with the traffic, and the share is exact. It needs no state, since it is a hash of the stratum's number.
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
 * Sample flows by a hash of addresses, ports and protocol, which is the same for both directions and on every machine.
 * A packet without addresses is always sampled.
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

/*
 * Assign an id to a packet that had no event before, and decide on sampling. `l3`: address of its IP header, 0 if none.
 */
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
