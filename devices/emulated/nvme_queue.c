/*
 * Completion queues: entries written into guest memory with their phase tag, a head that the driver
 * moves by doorbell or shadow doorbell, and interrupts, one for each batch of entries. NVM Express
 * Base 1.4 sections 4.1, 4.6 and 7.5.
 *
 * A command is only fetched once there is an entry for its completion ("reserved"), so that a full
 * queue stops submission queues and loses nothing.
 */
#include "devices/emulated/nvme.h"
#include "vmm/trace.h"

static uint32_t distance(const struct nvme_cq *cq, uint32_t from, uint32_t to)
{
	return to >= from ? to - from : to + cq->size - from;
}

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELAXED);
}

/* ---- the driver's head ----------------------------------------------------------------------- */

/* Moves it to what the driver says, unless that passes by the tail. */
static bool move_head(struct nvme_cq *cq, uint32_t value)
{
	if (value >= cq->size || distance(cq, cq->head, value) > distance(cq, cq->head, cq->tail))
		return false;
	cq->head = value;
	__atomic_store_n(&cq->asserted, cq->ien && cq->head != cq->tail, __ATOMIC_RELAXED);
	return true;
}

static void look_at_shadow(struct nvme_cq *cq)
{
	if (cq->shadow_head && !move_head(cq, load(cq->shadow_head)))
		nvme_bad_doorbell(cq->n, NVME_EVENT_INVALID_VALUE);
}

/*
 * Which move of the head the driver must tell by the register, as in virtio's EVENT_IDX: the one
 * away from *event. For a message-signalled queue that is none, so *event stays behind the head; a
 * pin has to be taken down, and who waits for room has to be woken.
 */
static void set_event(struct nvme_cq *cq)
{
	if (!cq->event)
		return;
	if (cq->starved || cq->id == 0 || !pci_msix_enabled(&cq->n->f))
		store(cq->event, cq->head);
	else
		store(cq->event, cq->head ? cq->head - 1 : cq->size - 1);
}

bool nvme_cq_set_head(struct nvme_cq *cq, uint32_t value, bool *wake)
{
	bool good;

	pthread_mutex_lock(&cq->lock);
	good = cq->live && move_head(cq, value);
	*wake = good && cq->starved;
	if (*wake)
		cq->starved = false;
	if (good)
		set_event(cq);
	pthread_mutex_unlock(&cq->lock);
	nvme_pin_update(cq->n);
	return good;
}

/* ---- room ------------------------------------------------------------------------------------ */

static bool has_room(const struct nvme_cq *cq)
{
	return distance(cq, cq->head, cq->tail) + cq->reserved < cq->size - 1;
}

/*
 * After telling the driver that it must ring, look once more: it may have moved just before. If
 * another submission queue waits already, it goes on to.
 */
static bool starve(struct nvme_cq *cq)
{
	bool others = cq->starved, room = false;

	cq->starved = true;
	if (cq->shadow_head) {
		set_event(cq);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		look_at_shadow(cq);
		room = has_room(cq);
		cq->starved = others || !room;
		if (!room)
			set_event(cq);
	}
	return !room;
}

bool nvme_cq_reserve(struct nvme_cq *cq)
{
	bool room;

	pthread_mutex_lock(&cq->lock);
	if (!has_room(cq))
		look_at_shadow(cq);
	room = has_room(cq) || !starve(cq);
	cq->reserved += room;
	pthread_mutex_unlock(&cq->lock);
	return room;
}

void nvme_cq_release(struct nvme_cq *cq)
{
	pthread_mutex_lock(&cq->lock);
	cq->reserved--;
	pthread_mutex_unlock(&cq->lock);
}

/* ---- completions ----------------------------------------------------------------------------- */

void nvme_cq_post(struct nvme_cq *cq, uint16_t sqid, uint32_t sqhd, uint16_t cid, uint16_t status,
		  uint32_t result)
{
	struct nvme_completion c = {
		.result = result,
		.sqhd = (uint16_t)sqhd,
		.sqid = sqid,
		.cid = cid,
	};

	pthread_mutex_lock(&cq->lock);
	cq->reserved--;
	if (cq->live) {
		struct nvme_completion *e = &cq->entry[cq->tail];

		/* The driver polls the phase: it comes last. */
		e->result = c.result;
		e->reserved = 0;
		e->sqhd = c.sqhd;
		e->sqid = c.sqid;
		e->cid = c.cid;
		__atomic_store_n(&e->status, (uint16_t)(status << 1 | cq->phase), __ATOMIC_RELEASE);
		if (++cq->tail == cq->size) {
			cq->tail = 0;
			cq->phase = !cq->phase;
		}
		cq->posted = true;
		__atomic_store_n(&cq->asserted, cq->ien, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&cq->lock);
}

/* The driver polls. */
static void unwanted(struct account *account)
{
	account_add(account, ACCOUNT_IRQS_SUPPRESSED, 1);
	trace_unwanted(account);
}

void nvme_cq_notify(struct nvme_cq *cq)
{
	struct pci_function *f = &cq->n->f;
	bool posted, send, wake = false;

	pthread_mutex_lock(&cq->lock);
	posted = cq->posted;
	send = posted && cq->ien;
	if (posted) {
		cq->posted = false;
		look_at_shadow(cq);
		/* With the event moved, the driver does not ring for the room that it has made. */
		wake = cq->shadow_head && cq->starved && has_room(cq);
		if (wake)
			cq->starved = false;
		set_event(cq);
	}
	pthread_mutex_unlock(&cq->lock);
	if (wake)
		nvme_sq_wake_all(cq->n);
	if (posted && !send)
		unwanted(cq->n->dev.account);
	if (!send)
		return;
	if (pci_msix_enabled(f))
		pci_msix_send(f, cq->vector);
	else
		nvme_pin_update(cq->n);
}

void nvme_pin_update(struct nvme *n)
{
	bool level = false;

	if (pci_msix_enabled(&n->f))
		return;
	pthread_mutex_lock(&n->pin_lock);
	for (unsigned i = 0; i <= n->nqueues && !level; i++)
		level = __atomic_load_n(&n->cq[i].asserted, __ATOMIC_RELAXED);
	/* With the pin there is one vector, 0. */
	pci_intx_set(&n->f, level && !(__atomic_load_n(&n->intms, __ATOMIC_RELAXED) & 1));
	pthread_mutex_unlock(&n->pin_lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

void nvme_cq_start(struct nvme_cq *cq, struct nvme_completion *entry, uint32_t size, bool ien,
		   uint16_t vector)
{
	pthread_mutex_lock(&cq->lock);
	cq->entry = entry;
	cq->size = size;
	cq->head = cq->tail = cq->reserved = 0;
	cq->phase = true;
	cq->starved = cq->posted = false;
	cq->ien = ien;
	cq->vector = vector;
	cq->shadow_head = cq->event = NULL;
	cq->live = true;
	pthread_mutex_unlock(&cq->lock);
}

void nvme_cq_shadow(struct nvme_cq *cq, uint32_t *head, uint32_t *event)
{
	pthread_mutex_lock(&cq->lock);
	/*
	 * The register's word up to here; from here on the shadow's. Not for the admin queue:
	 * drivers differ in whether they mean it too, so that one is always to be rung.
	 */
	if (cq->id) {
		store(head, cq->head);
		cq->shadow_head = head;
	}
	cq->event = event;
	set_event(cq);
	pthread_mutex_unlock(&cq->lock);
}

void nvme_cq_stop(struct nvme_cq *cq)
{
	pthread_mutex_lock(&cq->lock);
	cq->live = false;
	cq->posted = false;
	cq->shadow_head = cq->event = NULL;
	__atomic_store_n(&cq->asserted, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&cq->lock);
	nvme_pin_update(cq->n);
}
