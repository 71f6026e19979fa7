/*
 * The dispatcher: see bus.h. Look-ups read an immutable, sorted table through a hazard slot: a
 * reader announces the table it is about to use, checks that it is still the current one, and a
 * writer frees a retired table only when no slot names it. So a BAR move waits for nobody, readers
 * take no lock, and memory stays bounded by one table a reader however fast a guest moves BARs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bus.h"
#include "vmm/trace.h"

#define BUS_SLOTS 256 /* look-ups in progress at once: vCPUs (64) × nesting, and then some */

struct bus_table {
	struct bus_table *next_retired;
	unsigned nranges;
	unsigned nkicks;
	struct bus_kick *kick; /* those that KVM does not serve for us; behind range[] */
	struct bus_range range[];
};

/* A cache line each, so that vCPUs do not fight over them. */
struct bus_slot {
	struct bus_table *table;
	char pad[64 - sizeof(struct bus_table *)];
};

struct bus {
	const char *name;
	const struct bus_kernel_ops *kernel_ops;
	void *kernel_opaque;
	struct account *account; /* of ranges that nobody owns; NULL: nothing is counted */
	enum account_counter reads, writes;
	/* Serialises changes only. Order: owners' locks, then this. */
	pthread_mutex_t lock;
	struct bus_table *current;
	struct bus_table *retired;
	struct bus_slot slot[BUS_SLOTS];
};

static struct bus_table *table_alloc(unsigned nranges, unsigned nkicks)
{
	struct bus_table *t = calloc(1, sizeof(*t) + nranges * sizeof(struct bus_range) +
						nkicks * sizeof(struct bus_kick));

	if (!t)
		return NULL;
	t->nranges = nranges;
	t->nkicks = nkicks;
	t->kick = (struct bus_kick *)(t->range + nranges);
	return t;
}

struct bus *bus_create(const char *name)
{
	struct bus *bus = aligned_alloc(64, (sizeof(*bus) + 63) & ~(size_t)63);

	if (!bus)
		return NULL;
	memset(bus, 0, sizeof(*bus));
	bus->name = name;
	bus->current = table_alloc(0, 0);
	if (!bus->current) {
		free(bus);
		return NULL;
	}
	pthread_mutex_init(&bus->lock, NULL);
	return bus;
}

void bus_destroy(struct bus *bus)
{
	struct bus_table *next;

	if (!bus)
		return;
	for (struct bus_table *t = bus->retired; t; t = next) {
		next = t->next_retired;
		free(t);
	}
	free(bus->current);
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

const char *bus_name(const struct bus *bus)
{
	return bus->name;
}

void bus_set_kernel_ops(struct bus *bus, const struct bus_kernel_ops *ops, void *opaque)
{
	bus->kernel_ops = ops;
	bus->kernel_opaque = opaque;
}

void bus_set_account(struct bus *bus, struct account *own, enum account_counter reads,
		     enum account_counter writes)
{
	bus->account = own;
	bus->reads = reads;
	bus->writes = writes;
}

/* Counts; returns when the access began if it is traced, else 0. */
static uint64_t count(const struct bus *bus, struct account *owner, enum account_counter c)
{
	struct account *a = owner && bus->account ? owner : bus->account;

	account_add(a, c, 1);
	return trace_work_begin(a);
}

static struct account *owner_of(const struct bus_range *range, uint64_t offset)
{
	return range->ops && range->ops->owner ? range->ops->owner(range->opaque, offset)
					       : range->account;
}

/* Only what is traced comes here. Before the access: it may change what the register is. */
static const char *name_of(const struct bus_range *range, uint64_t offset, unsigned size,
			   bool write)
{
	const char *name = range->ops && range->ops->name
				   ? range->ops->name(range->opaque, offset, size, write)
				   : NULL;

	return name ? name : range->name;
}

/* An access that began then, of this value. */
static void trace_access(struct bus *bus, const struct bus_range *range, uint64_t begin,
			 const struct trace_event *event)
{
	struct account *a = range->account && bus->account ? range->account : bus->account;
	struct trace_event whole = *event;

	whole.kind = TRACE_ACCESS;
	whole.at = begin;
	whole.end = account_now(a);
	trace_put(a, &whole);
}

/* ---- readers --------------------------------------------------------------------------------- */

/*
 * Each thread prefers a slot of its own (spread by a thread-local hint) and takes the next free one
 * when it is inside a look-up already. NULL only if all slots are taken, which BUS_SLOTS rules out.
 */
static struct bus_slot *table_enter(struct bus *bus)
{
	static _Thread_local unsigned hint; /* only spreads threads over slots; not machine state */
	static unsigned next_hint;	    /* likewise */
	struct bus_table *table = __atomic_load_n(&bus->current, __ATOMIC_ACQUIRE);

	if (!hint)
		hint = __atomic_add_fetch(&next_hint, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < BUS_SLOTS; i++) {
		struct bus_slot *slot = &bus->slot[(hint + i) % BUS_SLOTS];
		struct bus_table *expected = NULL;

		/* Sequentially consistent: the announcement precedes the check below. */
		if (!__atomic_compare_exchange_n(&slot->table, &expected, table, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			continue;
		for (;;) {
			struct bus_table *now = __atomic_load_n(&bus->current, __ATOMIC_SEQ_CST);

			if (now == table)
				return slot;
			table = now;
			__atomic_store_n(&slot->table, table, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

static void table_leave(struct bus_slot *slot)
{
	__atomic_store_n(&slot->table, NULL, __ATOMIC_RELEASE);
}

/* The last range that begins at or below addr, if the whole access lies in it. */
static const struct bus_range *table_find(const struct bus_table *t, uint64_t addr, unsigned size)
{
	unsigned low = 0, high = t->nranges;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (t->range[mid].base <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	const struct bus_range *r = &t->range[low - 1];
	uint64_t offset = addr - r->base;

	return offset < r->size && size <= r->size - offset ? r : NULL;
}

static uint64_t width_mask(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

bool bus_read(struct bus *bus, uint64_t addr, unsigned size, uint64_t *value)
{
	struct bus_slot *slot = table_enter(bus);
	const struct bus_range *found = slot ? table_find(slot->table, addr, size) : NULL;
	struct bus_range range = { 0 };
	const char *name = NULL;
	bool claimed;
	uint64_t begin;

	if (found)
		range = *found;
	if (slot)
		table_leave(slot);
	range.account = owner_of(&range, addr - range.base);
	begin = count(bus, range.account, bus->reads);
	if (begin)
		name = name_of(&range, addr - range.base, size, false);
	claimed = range.ops && range.ops->read;
	*value = width_mask(size);
	if (claimed)
		*value &= range.ops->read(range.opaque, addr - range.base, size);
	if (begin)
		trace_access(bus, &range, begin,
			     &(struct trace_event){
				     .name = name, .a = *value, .b = addr, .size = (uint8_t)size });
	return claimed;
}

static bool kick_matches(const struct bus_kick *k, uint64_t addr, unsigned size, uint64_t value)
{
	return k->addr == addr && (k->size == 0 || k->size == size) &&
	       (!k->match || k->value == value);
}

/* *owner: whose doorbell it was; *begin: when that began if it is traced. */
static bool kick_signal(const struct bus_table *t, uint64_t addr, unsigned size, uint64_t value,
			struct account **owner, uint64_t *begin)
{
	for (unsigned i = 0; i < t->nkicks; i++) {
		if (!kick_matches(&t->kick[i], addr, size, value))
			continue;
		*owner = t->kick[i].account;
		account_add(*owner, ACCOUNT_KICKS_EXIT, 1);
		*begin = trace_work_begin(*owner);
		trace_kick(*owner);
		event_signal(t->kick[i].peer, t->kick[i].fd);
		return true;
	}
	return false;
}

static bool write_as(struct bus *bus, uint64_t addr, unsigned size, uint64_t value, bool posted)
{
	struct bus_slot *slot = table_enter(bus);
	const struct bus_range *found;
	struct bus_range range = { 0 };
	const char *name = "doorbell";
	uint64_t kick_begin = 0, begin;
	bool claimed, kicked = false;

	value &= width_mask(size);
	if (slot) {
		if (slot->table->nkicks)
			kicked = kick_signal(slot->table, addr, size, value, &range.account,
					     &kick_begin);
		found = kicked ? NULL : table_find(slot->table, addr, size);
		if (found)
			range = *found;
		table_leave(slot);
	}
	range.account = owner_of(&range, addr - range.base);
	begin = count(bus, range.account, posted ? ACCOUNT_POSTED : bus->writes);
	if (begin && !kicked)
		name = name_of(&range, addr - range.base, size, true);
	claimed = kicked || (range.ops && range.ops->write);
	if (claimed && !kicked)
		range.ops->write(range.opaque, addr - range.base, size, value);
	if (begin)
		trace_access(bus, &range, kicked ? kick_begin : begin,
			     &(struct trace_event){ .name = name,
						    .a = value,
						    .b = addr,
						    .size = (uint8_t)size,
						    .write = true,
						    .posted = posted });
	return claimed;
}

bool bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
	return write_as(bus, addr, size, value, false);
}

bool bus_write_posted(struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
	return write_as(bus, addr, size, value, true);
}

void bus_repeated(struct bus *bus, uint64_t addr, unsigned size, bool write, uint64_t n)
{
	struct bus_slot *slot = table_enter(bus);
	const struct bus_range *found = slot ? table_find(slot->table, addr, size) : NULL;
	struct account *owner = found ? owner_of(found, addr - found->base) : NULL;

	if (slot)
		table_leave(slot);
	owner = owner ? owner : bus->account;
	account_add(bus->account ? owner : NULL, write ? bus->writes : bus->reads, -n);
	account_add(bus->account ? owner : NULL, ACCOUNT_REPEATS, n);
}

/* ---- changes, with the lock held ------------------------------------------------------------- */

static bool in_use(struct bus *bus, const struct bus_table *t)
{
	for (unsigned i = 0; i < BUS_SLOTS; i++)
		if (__atomic_load_n(&bus->slot[i].table, __ATOMIC_SEQ_CST) == t)
			return true;
	return false;
}

static void publish(struct bus *bus, struct bus_table *t)
{
	struct bus_table **link = &bus->retired;
	struct bus_table *old = bus->current;

	__atomic_store_n(&bus->current, t, __ATOMIC_SEQ_CST);
	old->next_retired = bus->retired;
	bus->retired = old;
	while (*link) {
		struct bus_table *r = *link;

		if (in_use(bus, r)) {
			link = &r->next_retired;
		} else {
			*link = r->next_retired;
			free(r);
		}
	}
}

/* The current table with `ranges` and `kicks` places more or fewer; entries copied up to there. */
static struct bus_table *copy(const struct bus_table *old, int ranges, int kicks)
{
	unsigned nr = old->nranges + (unsigned)ranges, nk = old->nkicks + (unsigned)kicks;
	struct bus_table *t = table_alloc(nr, nk);

	if (!t)
		return NULL;
	memcpy(t->range, old->range, sizeof(t->range[0]) * (nr < old->nranges ? nr : old->nranges));
	memcpy(t->kick, old->kick, sizeof(t->kick[0]) * (nk < old->nkicks ? nk : old->nkicks));
	return t;
}

/* Where the kernel cannot hold them back, the writes exit: no error. */
static void post(struct bus *bus, const struct bus_range *range, bool on)
{
	const struct bus_kernel_ops *k = bus->kernel_ops;
	int (*set)(void *, struct bus *, uint64_t, uint64_t) = !k ? NULL : on ? k->post : k->unpost;

	for (unsigned i = 0; set && range->ops && i < BUS_POSTED; i++) {
		const struct bus_span *span = &range->ops->posted[i];

		if (span->size)
			set(bus->kernel_opaque, bus, range->base + span->offset, span->size);
	}
}

static int add_locked(struct bus *bus, const struct bus_range *range, struct error *e)
{
	const struct bus_table *old = bus->current;
	uint64_t last = range->base + range->size - 1;
	struct bus_table *t;
	unsigned at = 0;

	for (unsigned i = 0; i < old->nranges; i++) {
		const struct bus_range *r = &old->range[i];

		if (range->base <= r->base + r->size - 1 && r->base <= last)
			return error_set(e, -EEXIST, "%s 0x%llx-0x%llx (%s) overlaps %s at 0x%llx",
					 bus->name, (unsigned long long)range->base,
					 (unsigned long long)last, range->name, r->name,
					 (unsigned long long)r->base);
		if (r->base < range->base)
			at = i + 1;
	}
	t = copy(old, 1, 0);
	if (!t)
		return error_set(e, -ENOMEM, "out of memory");
	memmove(&t->range[at + 1], &t->range[at], sizeof(t->range[0]) * (old->nranges - at));
	t->range[at] = *range;
	publish(bus, t);
	post(bus, range, true);
	return 0;
}

int bus_add(struct bus *bus, const struct bus_range *range, struct error *e)
{
	int err;

	if (range->size == 0 || range->base + range->size - 1 < range->base)
		return error_set(e, -EINVAL, "%s: range %s is empty or wraps", bus->name,
				 range->name);
	pthread_mutex_lock(&bus->lock);
	err = add_locked(bus, range, e);
	pthread_mutex_unlock(&bus->lock);
	return err;
}

int bus_remove(struct bus *bus, uint64_t base, const void *opaque)
{
	struct bus_table *t = NULL;
	const struct bus_table *old;
	int err = -ENOENT;

	pthread_mutex_lock(&bus->lock);
	old = bus->current;
	for (unsigned i = 0; i < old->nranges; i++) {
		if (old->range[i].base != base || old->range[i].opaque != opaque)
			continue;
		t = copy(old, -1, 0);
		err = t ? 0 : -ENOMEM;
		if (t) {
			post(bus, &old->range[i], false);
			memcpy(&t->range[i], &old->range[i + 1],
			       sizeof(t->range[0]) * (old->nranges - i - 1));
			publish(bus, t);
		}
		break;
	}
	pthread_mutex_unlock(&bus->lock);
	return err;
}

int bus_kick_add(struct bus *bus, const struct bus_kick *kick)
{
	struct bus_table *t;
	int err = 0;

	if (bus->kernel_ops && bus->kernel_ops->assign &&
	    bus->kernel_ops->assign(bus->kernel_opaque, bus, kick) == 0)
		return 0;
	pthread_mutex_lock(&bus->lock);
	t = copy(bus->current, 0, 1);
	if (t) {
		t->kick[t->nkicks - 1] = *kick;
		publish(bus, t);
	} else {
		err = -ENOMEM;
	}
	pthread_mutex_unlock(&bus->lock);
	return err;
}

static bool same_kick(const struct bus_kick *a, const struct bus_kick *b)
{
	return a->addr == b->addr && a->size == b->size && a->match == b->match &&
	       (!a->match || a->value == b->value) && a->fd == b->fd;
}

int bus_kick_remove(struct bus *bus, const struct bus_kick *kick)
{
	const struct bus_table *old;
	int err = -ENOENT;

	pthread_mutex_lock(&bus->lock);
	old = bus->current;
	for (unsigned i = 0; i < old->nkicks; i++) {
		struct bus_table *t;

		if (!same_kick(&old->kick[i], kick))
			continue;
		t = copy(old, 0, -1);
		err = t ? 0 : -ENOMEM;
		if (t) {
			memcpy(&t->kick[i], &old->kick[i + 1],
			       sizeof(t->kick[0]) * (old->nkicks - i - 1));
			publish(bus, t);
		}
		break;
	}
	pthread_mutex_unlock(&bus->lock);
	if (err == -ENOENT && bus->kernel_ops && bus->kernel_ops->deassign)
		err = bus->kernel_ops->deassign(bus->kernel_opaque, bus, kick);
	return err;
}

void bus_for_each(struct bus *bus, void (*fn)(const struct bus_range *range, void *arg), void *arg)
{
	struct bus_slot *slot = table_enter(bus);

	if (!slot)
		return;
	for (unsigned i = 0; i < slot->table->nranges; i++)
		fn(&slot->table->range[i], arg);
	table_leave(slot);
}
