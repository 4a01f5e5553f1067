/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A new packet: its packet id, and whether it is sampled (--sample-rate, --sample-flow). Both are
 * decided at its first event, behind all filters, and stay with it from then on (skb/packet_ids.h).
 */
#ifndef PYPWRU_SKB_NEW_PACKET_H
#define PYPWRU_SKB_NEW_PACKET_H

#include "helpers.h"
#include "event.h"
#include "counters.h"
#include "flow.h"
#include "match/packet_filter.h"

/* What the map `seen` keeps of a packet. */
struct packet_id {
	u64 id;		    /* packet id, as in part_packet_id; never 0 */
	u64 is_sampled_out; /* it is not sampled: none of its events is written */
};

#define MAX_TRIES 3
#define SEQUENCE_OF_TIME (1ULL << 39)

/*
 * The next sequence number of this CPU, from 1 on. An interrupt's handler can come in between, and
 * before Linux v5.12 atomic operations of BPF do not return the new value: a number is unique if
 * nothing else has incremented it in the meantime. If something has, at each try, the sequence
 * number is made of the time, in ns.
 */
ALWAYS_INLINE u64 next_sequence(void)
{
	struct counters *counters = this_cpu_counters();
	volatile u64 *assigned;
	u64 before, sequence;
	int i;

	for (i = 0; counters && i < MAX_TRIES; i++) {
		assigned = &counters->id_assigned;
		before = *assigned;
		__sync_fetch_and_add(&counters->id_assigned, 1);
		sequence = *assigned;
		if (sequence == before + 1)
			return sequence;
	}
	return SEQUENCE_OF_TIME | (bpf_ktime_get_ns() & (SEQUENCE_OF_TIME - 1));
}

/*
 * The 64-bit finalizer of MurmurHash3, by Austin Appleby: every bit of the result depends on every
 * bit of the value.
 */
ALWAYS_INLINE u64 murmur_mix(u64 value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return value ^ value >> 33;
}

/*
 * Stratified sampling: of SAMPLE_RATE successive packets of a CPU one is drawn at random. So the
 * draw can't fall into step with the traffic, and the share is exact. It needs no state, since it
 * is a hash of the number of the stratum.
 */
ALWAYS_INLINE int is_packet_drawn(u64 cpu, u64 sequence)
{
	u64 rate = LOAD_TIME_CONST(SAMPLE_RATE), stratum = (sequence - 1) / rate;

	return murmur_mix(murmur_mix(cpu << 40 | stratum) ^ LOAD_TIME_CONST(SAMPLE_SEED)) % rate ==
	       (sequence - 1) % rate;
}

ALWAYS_INLINE u64 mix_endpoint(u64 *address, u16 port)
{
	return murmur_mix(address[0] ^ murmur_mix(address[1] ^ murmur_mix(port)));
}

/*
 * Sample flows by a hash of addresses, ports and protocol, which is the same for both directions
 * and on every machine. A packet without addresses is always sampled.
 */
ALWAYS_INLINE int is_flow_drawn(u64 l3)
{
	struct part_tunnel found __attribute__((aligned(8))) = {};
	u64 endpoints;

	if (l3)
		fill_ip(TUPLE_DEST(&found), l3, 0);
	if (!found.l3)
		return 1;
	endpoints = mix_endpoint((u64 *)found.saddr, found.sport) +
		    mix_endpoint((u64 *)found.daddr, found.dport);
	return murmur_mix(endpoints ^ murmur_mix(found.l4)) % LOAD_TIME_CONST(SAMPLE_FLOW) == 0;
}

/*
 * Assign an id to a packet that had no event before, and decide on sampling. `l3`: address of its
 * IP header, 0 if none.
 */
ALWAYS_INLINE struct packet_id assign_packet_id(u64 l3)
{
	u64 cpu = bpf_get_smp_processor_id(), sequence = next_sequence();
	struct packet_id packet_id = { .id = cpu << 40 | sequence };

	packet_id.is_sampled_out = (SAMPLE_PACKETS && !is_packet_drawn(cpu, sequence)) ||
				   (SAMPLE_FLOWS && !is_flow_drawn(l3));
	return packet_id;
}

#endif
