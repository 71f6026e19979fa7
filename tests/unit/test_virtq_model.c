/* The model driver: see test_virtq_model.h. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_virtq_model.h"

#define F_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED	(1u << VRING_PACKED_DESC_F_USED)

struct guest_memory model_memory(void)
{
	struct memory_config config = { .size = MODEL_MEMORY };
	struct guest_memory m;
	struct error e;

	cr_assert_eq(memory_create(&m, &config, MODEL_LOW, MODEL_HIGH, &e), 0, "%s", e.msg);
	return m;
}

void *model_at(const struct guest_memory *memory, uint64_t addr, uint64_t len)
{
	void *p = memory_map(memory, addr, len, 1);

	cr_assert_not_null(p, "%#llx is not RAM", (unsigned long long)addr);
	return p;
}

void model_init(struct model *d, const struct guest_memory *memory, uint64_t base, uint16_t size,
		uint64_t features)
{
	*d = (struct model){
		.memory = memory,
		.packed = features & MODEL_BIT(VIRTIO_F_RING_PACKED),
		.event_idx = features & MODEL_BIT(VIRTIO_RING_F_EVENT_IDX),
		.indirect = features & MODEL_BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.size = size,
		.config = { .size = size,
			    .desc = base + MODEL_DESC,
			    .driver = base + MODEL_DRIVER,
			    .device = base + MODEL_DEVICE,
			    .features = features },
		.free_slots = size,
		.avail_wrap = true,
		.used_wrap = true,
	};
	memory_zero(memory, d->config.desc, 16ull * size);
	memory_zero(memory, d->config.driver, 6 + 2ull * size);
	memory_zero(memory, d->config.device, 6 + 8ull * size);
	d->next = calloc(size, sizeof(*d->next));
	d->slots = calloc(size, sizeof(*d->slots));
	for (unsigned i = 0; i < size; i++)
		d->next[i] = (uint16_t)(d->packed ? i : i + 1);
	d->free_head = d->packed ? size : 0;
}

void model_free(struct model *d)
{
	free(d->next);
	free(d->slots);
}

static struct vring_desc *split_desc(struct model *d)
{
	return model_at(d->memory, d->config.desc, 16ull * d->size);
}

static struct vring_avail *split_avail(struct model *d)
{
	return model_at(d->memory, d->config.driver, 6 + 2ull * d->size);
}

static struct vring_used *split_used(struct model *d)
{
	return model_at(d->memory, d->config.device, 6 + 8ull * d->size);
}

static uint16_t *split_avail_event(struct model *d)
{
	return (uint16_t *)(void *)&split_used(d)->ring[d->size];
}

static struct vring_packed_desc *packed_desc(struct model *d)
{
	return model_at(d->memory, d->config.desc, 16ull * d->size);
}

static struct vring_packed_desc_event *packed_event(struct model *d, bool device)
{
	return model_at(d->memory, device ? d->config.device : d->config.driver, 4);
}

/* ---- adding ---------------------------------------------------------------------------------- */

static uint64_t fill_table(struct model *d, unsigned id, const struct model_buf *buf, unsigned n)
{
	uint64_t addr = MODEL_TABLES + (uint64_t)id * MODEL_TABLE * 16;

	cr_assert_leq(n, MODEL_TABLE);
	for (unsigned i = 0; i < n; i++) {
		uint16_t write = buf[i].write ? VRING_DESC_F_WRITE : 0;

		if (d->packed) {
			struct vring_packed_desc *t = model_at(d->memory, addr, 16ull * n);

			t[i] = (struct vring_packed_desc){ buf[i].addr, buf[i].len, 0, write };
		} else {
			struct vring_desc *t = model_at(d->memory, addr, 16ull * n);

			t[i] = (struct vring_desc){ buf[i].addr, buf[i].len, write, 0 };
			if (i + 1 < n) {
				t[i].flags |= VRING_DESC_F_NEXT;
				t[i].next = (uint16_t)(i + 1);
			}
		}
	}
	return addr;
}

static int split_add(struct model *d, const struct model_buf *buf, unsigned n, bool indirect)
{
	struct vring_desc *desc = split_desc(d);
	struct vring_avail *avail = split_avail(d);
	uint16_t head = d->free_head, at = head;
	struct model_buf table = { 0 };

	d->slots[head] = indirect ? 1 : n;
	if (indirect) {
		table.addr = fill_table(d, head, buf, n);
		table.len = n * 16;
		buf = &table;
		n = 1;
	}
	for (unsigned i = 0; i < n; i++) {
		desc[at].addr = buf[i].addr;
		desc[at].len = buf[i].len;
		desc[at].flags = buf[i].write ? VRING_DESC_F_WRITE : 0;
		if (indirect)
			desc[at].flags |= VRING_DESC_F_INDIRECT;
		if (i + 1 < n)
			desc[at].flags |= VRING_DESC_F_NEXT;
		desc[at].next = d->next[at];
		at = d->next[at];
	}
	d->free_head = at;
	avail->ring[d->avail & (d->size - 1)] = head;
	d->avail++;
	__atomic_store_n(&avail->idx, d->avail, __ATOMIC_RELEASE);
	return head;
}

static int packed_add(struct model *d, const struct model_buf *buf, unsigned n, bool indirect)
{
	struct vring_packed_desc *ring = packed_desc(d);
	uint16_t id = d->next[--d->free_head], first_flags = 0;
	unsigned first = d->avail;
	struct model_buf table = { 0 };

	if (indirect) {
		table.addr = fill_table(d, id, buf, n);
		table.len = n * 16;
		buf = &table;
		n = 1;
	}
	d->slots[id] = n;
	d->kick_slots += n;
	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)(d->avail_wrap ? F_AVAIL : F_USED);

		if (buf[i].write)
			flags |= VRING_DESC_F_WRITE;
		if (indirect)
			flags |= VRING_DESC_F_INDIRECT;
		if (i + 1 < n)
			flags |= VRING_DESC_F_NEXT;
		ring[d->avail].addr = buf[i].addr;
		ring[d->avail].len = buf[i].len;
		ring[d->avail].id = id;
		if (i == 0)
			first_flags = flags;
		else
			ring[d->avail].flags = flags;
		if (++d->avail == d->size) {
			d->avail = 0;
			d->avail_wrap = !d->avail_wrap;
		}
	}
	__atomic_store_n(&ring[first].flags, first_flags, __ATOMIC_RELEASE);
	return id;
}

int model_add(struct model *d, const struct model_buf *buf, unsigned n, bool indirect)
{
	unsigned need = indirect ? 1 : n;

	if (need > d->free_slots)
		return -1;
	d->free_slots -= need;
	return d->packed ? packed_add(d, buf, n, indirect) : split_add(d, buf, n, indirect);
}

/* ---- using ----------------------------------------------------------------------------------- */

static bool split_has_used(struct model *d)
{
	return __atomic_load_n(&split_used(d)->idx, __ATOMIC_ACQUIRE) != d->used;
}

static bool split_used_next(struct model *d, struct model_used *used)
{
	struct vring_desc *desc = split_desc(d);
	struct vring_used_elem elem;
	unsigned at;

	if (!split_has_used(d))
		return false;
	elem = split_used(d)->ring[d->used & (d->size - 1)];
	cr_assert_lt(elem.id, d->size);
	cr_assert(d->slots[elem.id] > 0, "used twice: %u", elem.id);
	d->used++;
	*used = (struct model_used){ (uint16_t)elem.id, elem.len };
	for (at = elem.id; desc[at].flags & VRING_DESC_F_NEXT; at = desc[at].next)
		continue;
	d->next[at] = d->free_head;
	d->free_head = (uint16_t)elem.id;
	return true;
}

static bool packed_has_used(struct model *d)
{
	uint16_t flags = __atomic_load_n(&packed_desc(d)[d->used].flags, __ATOMIC_ACQUIRE);

	return !!(flags & F_AVAIL) == d->used_wrap && !!(flags & F_USED) == d->used_wrap;
}

static bool packed_used_next(struct model *d, struct model_used *used)
{
	struct vring_packed_desc desc;
	unsigned to;

	if (!packed_has_used(d))
		return false;
	desc = packed_desc(d)[d->used];
	cr_assert_lt(desc.id, d->size);
	cr_assert(d->slots[desc.id] > 0, "used twice: %u", desc.id);
	*used = (struct model_used){ desc.id, desc.flags & VRING_DESC_F_WRITE ? desc.len : 0 };
	to = d->used + d->slots[desc.id];
	if (to >= d->size) {
		to -= d->size;
		d->used_wrap = !d->used_wrap;
	}
	d->used = (uint16_t)to;
	d->next[d->free_head++] = desc.id;
	return true;
}

bool model_used(struct model *d, struct model_used *used)
{
	if (!(d->packed ? packed_used_next(d, used) : split_used_next(d, used)))
		return false;
	d->free_slots += d->slots[used->id];
	d->slots[used->id] = 0;
	return true;
}

/* ---- events ---------------------------------------------------------------------------------- */

static bool packed_must_kick(struct model *d)
{
	struct vring_packed_desc_event event = *packed_event(d, true);
	int added = (int)d->kick_slots, end = d->avail, at;

	d->kick_slots = 0;
	if (added == 0 || event.flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (event.flags == VRING_PACKED_EVENT_FLAG_ENABLE)
		return true;
	at = event.off_wrap & 0x7fff;
	if ((event.off_wrap >> 15) != d->avail_wrap)
		at -= d->size;
	return at >= end - added && at < end;
}

bool model_must_kick(struct model *d)
{
	uint16_t old = d->kick_from;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (d->packed)
		return packed_must_kick(d);
	d->kick_from = d->avail;
	if (old == d->avail)
		return false;
	if (d->event_idx)
		return vring_need_event(*(volatile uint16_t *)split_avail_event(d), d->avail, old);
	return !(*(volatile uint16_t *)&split_used(d)->flags & VRING_USED_F_NO_NOTIFY);
}

void model_busy(struct model *d)
{
	if (d->packed)
		packed_event(d, false)->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	else if (!d->event_idx)
		split_avail(d)->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

bool model_sleep(struct model *d)
{
	if (d->packed) {
		struct vring_packed_desc_event *event = packed_event(d, false);

		event->off_wrap = (uint16_t)(d->used | d->used_wrap << 15);
		__atomic_store_n(&event->flags,
				 d->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
					      : VRING_PACKED_EVENT_FLAG_ENABLE,
				 __ATOMIC_RELEASE);
	} else if (d->event_idx) {
		__atomic_store_n(&split_avail(d)->ring[d->size], d->used, __ATOMIC_RELAXED);
	} else {
		__atomic_store_n(&split_avail(d)->flags, 0, __ATOMIC_RELAXED);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return d->packed ? packed_has_used(d) : split_has_used(d);
}

uint64_t model_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}
