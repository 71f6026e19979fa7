/*
 * Noting what is in flight: see queue_track.h. The two layouts are the vhost-user document's
 * QueueRegionSplit and QueueRegionPacked. Stores are ordered so that a process killed between any
 * two of them leaves a region from which nothing is lost and nothing is done to the driver twice.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/queue_track.h"

#define VERSION 1u
#define NONE	0xffffu /* the end of a list; no queue has so many entries */

struct split_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct split_region {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct split_entry desc[];
};

struct packed_entry {
	uint8_t inflight, padding;
	uint16_t next, last, num;
	uint64_t counter;
	uint16_t id, flags;
	uint32_t len;
	uint64_t addr;
};

/* Eight bytes of the region that change in one store. */
union packed_at {
	uint64_t word;
	struct {
		uint16_t used_idx, old_used_idx;
		uint8_t used_wrap_counter, old_used_wrap_counter, padding[2];
	};
};

struct packed_region {
	uint64_t features;
	uint16_t version, desc_num, free_head, old_free_head;
	union packed_at at;
	uint64_t padding;
	struct packed_entry desc[];
};

_Static_assert(sizeof(struct split_entry) == 16 && sizeof(struct split_region) == 16 &&
		       sizeof(struct packed_entry) == 32 && sizeof(struct packed_region) == 32,
	       "layouts are shared");

/* Used and not published yet. */
struct used {
	uint16_t entry, slots; /* split: entry is the head */
	uint16_t pos, flags;   /* packed */
};

struct retake {
	uint64_t counter;
	uint16_t entry, slots;
};

struct virtq_track {
	union {
		struct split_region *split;
		struct packed_region *packed;
	};
	unsigned room; /* entries that fit the region */
	uint64_t counter;

	struct used *used;
	unsigned nused;

	struct retake *again; /* oldest first */
	unsigned nagain, done_again;

	/* Packed: the free list and the chains' links, as we have written them. */
	uint16_t *next, *last;
	uint16_t free_head;
	uint16_t settled;    /* the free list without the chain that is being taken */
	uint16_t head, tail; /* of that chain */
	union packed_at at;
};

size_t virtq_track_size(unsigned queue_size)
{
	size_t split = sizeof(struct split_region) + queue_size * sizeof(struct split_entry);
	size_t packed = sizeof(struct packed_region) + queue_size * sizeof(struct packed_entry);

	return split > packed ? split : packed;
}

static void track_free(struct virtq_track *t)
{
	if (!t)
		return;
	free(t->used);
	free(t->again);
	free(t->next);
	free(t->last);
	free(t);
}

int virtq_track(struct virtq *q, void *region, size_t len)
{
	struct virtq_track *t;

	track_free(q->track);
	q->track = NULL;
	if (!region)
		return 0;
	if ((uintptr_t)region & 7 || len < virtq_track_size(1))
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->split = region;
	t->room = (unsigned)((len - sizeof(struct packed_region)) / sizeof(struct packed_entry));
	t->used = calloc(q->max_size, sizeof(*t->used));
	t->again = calloc(q->max_size, sizeof(*t->again));
	t->next = calloc(q->max_size, sizeof(*t->next));
	t->last = calloc(q->max_size, sizeof(*t->last));
	if (!t->used || !t->again || !t->next || !t->last) {
		track_free(t);
		return -ENOMEM;
	}
	q->track = t;
	return 0;
}

/* Stores that must be seen in this order by whoever comes after us. */
#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_RELEASE)
#define LOAD(place)	    __atomic_load_n(&(place), __ATOMIC_ACQUIRE)

static int damaged(struct virtq *q)
{
	return virtq_break(q, "region of requests in flight is damaged");
}

/* ---- taking once more ------------------------------------------------------------------------ */

static int by_counter(const void *a, const void *b)
{
	const struct retake *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

int virtq_track_begin(struct virtq *q)
{
	struct virtq_track *t = q->track;
	int err;

	t->nused = t->nagain = t->done_again = 0;
	t->counter = 0;
	if (t->room < q->size)
		return virtq_break(q, "region of requests in flight is too small");
	err = q->ring->recover(q);
	if (err)
		return err;
	qsort(t->again, t->nagain, sizeof(*t->again), by_counter);
	if (t->nagain)
		t->counter = t->again[t->nagain - 1].counter + 1;
	for (unsigned i = 0; i < t->nagain; i++)
		q->in_flight += t->again[i].slots;
	return 0;
}

bool virtq_track_waiting(const struct virtq *q)
{
	return q->track->done_again < q->track->nagain;
}

unsigned virtq_track_retake(struct virtq *q, struct virtq_chain **chains, unsigned max)
{
	struct virtq_track *t = q->track;
	unsigned n = 0;

	while (n < max && t->done_again < t->nagain) {
		struct virtq_chain *chain = virtq_chain_begin(q);

		if (!chain)
			break; /* cannot be: no more of them than the queue has entries */
		if (q->ring->retake(q, chain, t->again[t->done_again].entry) < 0) {
			virtq_chain_abandon(q, chain);
			break;
		}
		virtq_chain_commit(q, chain);
		t->done_again++;
		chains[n++] = chain;
	}
	return n;
}

/* ---- split ----------------------------------------------------------------------------------- */

/* The last batch may have been shown to the driver and not have been noted as done. */
static int split_finish_batch(struct virtq *q, uint16_t used_idx)
{
	struct split_region *region = q->track->split;
	unsigned batch = (uint16_t)(used_idx - region->used_idx);
	unsigned entry = LOAD(region->last_batch_head);

	if (batch > q->size)
		return damaged(q);
	for (; batch; batch--) {
		if (entry >= q->size)
			return damaged(q);
		STORE(region->desc[entry].inflight, 0);
		entry = LOAD(region->desc[entry].next);
	}
	STORE(region->used_idx, used_idx);
	return 0;
}

int virtq_track_split_recover(struct virtq *q, uint16_t used_idx)
{
	struct virtq_track *t = q->track;
	struct split_region *region = t->split;
	uint16_t version = LOAD(region->version);
	int err;

	if (version == 0) {
		region->features = 0;
		region->desc_num = q->size;
		region->last_batch_head = 0;
		region->used_idx = used_idx;
		STORE(region->version, VERSION);
		return 0;
	}
	if (version != VERSION || LOAD(region->desc_num) != q->size)
		return damaged(q);
	err = split_finish_batch(q, used_idx);
	if (err)
		return err;
	for (unsigned i = 0; i < q->size; i++)
		if (LOAD(region->desc[i].inflight))
			t->again[t->nagain++] = (struct retake){
				.counter = LOAD(region->desc[i].counter),
				.entry = (uint16_t)i,
				.slots = 1,
			};
	q->at.used_idx = q->published = used_idx;
	q->at.avail_idx = (uint16_t)(used_idx + t->nagain);
	return 0;
}

void virtq_track_split_take(struct virtq *q, uint16_t head)
{
	struct split_entry *entry = &q->track->split->desc[head];

	STORE(entry->counter, q->track->counter++);
	STORE(entry->inflight, 1);
}

void virtq_track_split_untake(struct virtq *q, uint16_t head)
{
	STORE(q->track->split->desc[head].inflight, 0);
}

void virtq_track_split_used(struct virtq *q, uint16_t head)
{
	struct virtq_track *t = q->track;

	STORE(t->split->desc[head].next, t->nused ? t->used[t->nused - 1].entry : head);
	STORE(t->split->last_batch_head, head);
	t->used[t->nused++] = (struct used){ .entry = head };
}

void virtq_track_split_published(struct virtq *q)
{
	struct virtq_track *t = q->track;

	for (unsigned i = 0; i < t->nused; i++)
		STORE(t->split->desc[t->used[i].entry].inflight, 0);
	t->nused = 0;
	STORE(t->split->used_idx, q->at.used_idx);
}

/* ---- packed ---------------------------------------------------------------------------------- */

static void packed_init(struct virtq *q)
{
	struct virtq_track *t = q->track;
	struct packed_region *region = t->packed;

	for (unsigned i = 0; i < q->size; i++) {
		t->next[i] = i + 1 < q->size ? (uint16_t)(i + 1) : NONE;
		region->desc[i].next = t->next[i];
		region->desc[i].inflight = 0;
	}
	region->features = 0;
	region->desc_num = q->size;
	region->free_head = region->old_free_head = t->free_head = t->settled = 0;
	t->at = (union packed_at){ .used_idx = q->at.used_idx,
				   .old_used_idx = q->at.used_idx,
				   .used_wrap_counter = q->at.used_wrap,
				   .old_used_wrap_counter = q->at.used_wrap };
	STORE(region->at.word, t->at.word);
	STORE(region->version, VERSION);
}

/* Was the chain that was about to be shown seen by the driver? */
static bool packed_was_shown(const struct virtq *q, unsigned pos, bool wrap)
{
	uint16_t flags = virtq_load16_acquire(&q->packed.desc[pos].flags);

	return !!(flags & VIRTQ_F_AVAIL) == wrap && !!(flags & VIRTQ_F_USED) == wrap;
}

/* Takes a step that had begun back, or finishes it. */
static int packed_settle(struct virtq *q)
{
	struct virtq_track *t = q->track;
	struct packed_region *region = t->packed;
	union packed_at at = { .word = LOAD(region->at.word) };

	if (at.old_used_idx >= q->size || at.used_idx >= q->size || at.used_wrap_counter > 1 ||
	    at.old_used_wrap_counter > 1)
		return damaged(q);
	if ((at.old_used_idx != at.used_idx || at.old_used_wrap_counter != at.used_wrap_counter) &&
	    packed_was_shown(q, at.old_used_idx, at.old_used_wrap_counter)) {
		STORE(region->old_free_head, LOAD(region->free_head));
		/* cppcheck-suppress overlappingWriteUnion; other members of one struct */
		at.old_used_idx = at.used_idx;
		/* cppcheck-suppress overlappingWriteUnion; other members of one struct */
		at.old_used_wrap_counter = at.used_wrap_counter;
	}
	/* cppcheck-suppress overlappingWriteUnion; other members of one struct */
	at.used_idx = at.old_used_idx;
	/* cppcheck-suppress overlappingWriteUnion; other members of one struct */
	at.used_wrap_counter = at.old_used_wrap_counter;
	STORE(region->at.word, at.word);
	t->at = at;
	t->free_head = t->settled = LOAD(region->old_free_head);
	STORE(region->free_head, t->free_head);
	q->at.used_idx = at.used_idx;
	q->at.used_wrap = at.used_wrap_counter;
	return 0;
}

/* Marks in t->last which entries are free, and that those have nothing in flight. */
static int packed_free_list(struct virtq *q)
{
	struct virtq_track *t = q->track;
	struct packed_region *region = t->packed;

	for (unsigned i = 0; i < q->size; i++)
		t->last[i] = 0;
	for (unsigned at = t->free_head; at != NONE; at = t->next[at]) {
		if (at >= q->size || t->last[at])
			return damaged(q);
		t->last[at] = 1;
		STORE(region->desc[at].inflight, 0);
		t->next[at] = LOAD(region->desc[at].next);
	}
	return 0;
}

/* The links of the chain noted at `entry`, none of which may be free or in another chain. */
static int packed_chain(struct virtq *q, unsigned entry, unsigned num)
{
	struct virtq_track *t = q->track;
	unsigned at = entry, end = entry;

	for (unsigned i = 0; i < num; i++) {
		if (at >= q->size || t->last[at])
			return damaged(q);
		t->last[at] = 1;
		t->next[at] = LOAD(t->packed->desc[at].next);
		end = at;
		at = t->next[at];
	}
	t->again[t->nagain++] = (struct retake){
		.counter = LOAD(t->packed->desc[entry].counter),
		.entry = (uint16_t)entry,
		.slots = (uint16_t)num,
	};
	t->next[end] = NONE;
	return 0;
}

int virtq_track_packed_recover(struct virtq *q, unsigned *slots)
{
	struct virtq_track *t = q->track;
	uint16_t version = LOAD(t->packed->version);
	int err;

	*slots = 0;
	if (version == 0) {
		struct virtq_state given = q->at;

		packed_init(q);
		*slots = (unsigned)(given.avail_idx - given.used_idx +
				    (given.avail_wrap == given.used_wrap ? 0 : q->size));
		return *slots <= q->size ? 0 : damaged(q);
	}
	if (version != VERSION || LOAD(t->packed->desc_num) != q->size)
		return damaged(q);
	err = packed_settle(q);
	if (!err)
		err = packed_free_list(q);
	for (unsigned i = 0; i < q->size && !err; i++) {
		unsigned num = LOAD(t->packed->desc[i].num);

		if (t->last[i] || !LOAD(t->packed->desc[i].inflight))
			continue;
		if (num == 0 || num > q->size - *slots)
			return damaged(q);
		err = packed_chain(q, i, num);
		*slots += num;
	}
	if (err)
		return err;
	for (unsigned i = 0; i < t->nagain; i++) {
		unsigned end = t->again[i].entry;

		while (t->next[end] != NONE)
			end = t->next[end];
		t->last[t->again[i].entry] = (uint16_t)end;
	}
	return 0;
}

int virtq_track_packed_take(struct virtq *q, const struct virtq_desc *d, unsigned i)
{
	struct virtq_track *t = q->track;
	unsigned at = t->free_head;
	struct packed_entry *entry;

	if (i == 0)
		t->head = t->free_head;
	if (at == NONE)
		return damaged(q); /* its free list was shorter than the ring */
	entry = &t->packed->desc[at];
	if (i == 0) {
		STORE(entry->counter, t->counter++);
		STORE(entry->inflight, 1);
	}
	entry->addr = d->addr;
	entry->len = d->len;
	entry->flags = d->flags;
	entry->id = d->next;
	STORE(t->packed->desc[t->head].num, (uint16_t)(i + 1));
	t->tail = (uint16_t)at;
	t->free_head = t->next[at];
	STORE(t->packed->free_head, t->free_head);
	return 0;
}

uint16_t virtq_track_packed_taken(struct virtq *q)
{
	struct virtq_track *t = q->track;

	t->last[t->head] = t->tail;
	STORE(t->packed->desc[t->head].last, t->tail);
	t->settled = t->free_head;
	STORE(t->packed->old_free_head, t->settled);
	return t->head;
}

void virtq_track_packed_drop(struct virtq *q)
{
	struct virtq_track *t = q->track;

	if (t->free_head == t->settled)
		return; /* its first descriptor was no good */
	STORE(t->packed->desc[t->settled].inflight, 0);
	t->free_head = t->settled;
	STORE(t->packed->free_head, t->free_head);
}

/* The entries of a chain that is done go back to the free list. */
static void packed_release(struct virtq_track *t, uint16_t head)
{
	uint16_t last = t->last[head];

	t->next[last] = t->free_head;
	STORE(t->packed->desc[last].next, t->free_head);
	t->free_head = head;
	STORE(t->packed->free_head, head);
}

void virtq_track_packed_untake(struct virtq *q, uint16_t entry)
{
	struct virtq_track *t = q->track;

	packed_release(t, entry);
	t->settled = t->free_head;
	STORE(t->packed->old_free_head, t->settled);
	STORE(t->packed->desc[entry].inflight, 0);
}

void virtq_track_packed_used(struct virtq *q, const struct virtq_chain *chain, unsigned pos,
			     uint16_t flags)
{
	struct virtq_track *t = q->track;

	t->used[t->nused++] = (struct used){
		.entry = chain->entry,
		.slots = chain->slots,
		.pos = (uint16_t)pos,
		.flags = flags,
	};
}

bool virtq_track_packed_showing(struct virtq *q, unsigned i, unsigned *pos, uint16_t *flags)
{
	struct virtq_track *t = q->track;
	const struct used *used = &t->used[i];
	unsigned next;

	if (i == t->nused)
		return false;
	next = used->pos + used->slots;
	t->at.used_idx = (uint16_t)(next >= q->size ? next - q->size : next);
	t->at.used_wrap_counter = !!(used->flags & VIRTQ_F_USED) != (next >= q->size);
	t->head = used->entry;
	packed_release(t, used->entry);
	STORE(t->packed->at.word, t->at.word);
	*pos = used->pos;
	*flags = used->flags;
	return true;
}

void virtq_track_packed_shown(struct virtq *q)
{
	struct virtq_track *t = q->track;

	STORE(t->packed->desc[t->head].inflight, 0);
	t->settled = t->free_head;
	STORE(t->packed->old_free_head, t->settled);
	t->at.old_used_idx = t->at.used_idx;
	t->at.old_used_wrap_counter = t->at.used_wrap_counter;
	STORE(t->packed->at.word, t->at.word);
}

void virtq_track_packed_published(struct virtq *q)
{
	q->track->nused = 0;
}

struct virtq_desc virtq_track_packed_noted(const struct virtq *q, unsigned *at)
{
	const struct virtq_track *t = q->track;
	const struct packed_entry *entry = &t->packed->desc[*at];
	struct virtq_desc d = {
		.addr = LOAD(entry->addr),
		.len = LOAD(entry->len),
		.flags = LOAD(entry->flags),
		.next = LOAD(entry->id),
	};

	/* Past its last entry the chain is too long, which the caller finds by its length. */
	if (t->next[*at] != NONE)
		*at = t->next[*at];
	return d;
}

unsigned virtq_track_packed_slots(const struct virtq *q, unsigned entry)
{
	const struct virtq_track *t = q->track;

	return t->again[t->done_again].entry == entry ? t->again[t->done_again].slots : 0;
}
