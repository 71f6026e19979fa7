/*
 * Asynchronous events, which complete requests that the driver has left with the controller, and
 * the error log. NVM Express Base 1.4 sections 5.2 and 5.14.1.1.
 *
 * An event of a type is told once; the type is quiet until the driver has read its log page.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/emulated/nvme.h"
#include "vmm/event_fd.h"

static const uint8_t log_page[NVME_EVENT_TYPES] = {
	[NVME_EVENT_ERROR] = NVME_LOG_ERROR,
	[NVME_EVENT_SMART] = NVME_LOG_SMART,
	[NVME_EVENT_NOTICE] = NVME_LOG_CHANGED_NS,
};

uint16_t nvme_async_event(struct nvme *n, uint16_t cid)
{
	if (n->naer == NVME_AERS)
		return NVME_SC_AER_LIMIT;
	n->aer_cid[n->naer++] = cid;
	/* It may wait for ever, and must not keep an entry from commands that do not. */
	nvme_cq_release(&n->cq[0]);
	return NVME_LATER;
}

bool nvme_abort_event(struct nvme *n, uint16_t cid)
{
	for (unsigned i = 0; i < n->naer; i++) {
		if (n->aer_cid[i] != cid || !nvme_cq_reserve(&n->cq[0]))
			continue;
		n->aer_cid[i] = n->aer_cid[--n->naer];
		nvme_admin_complete(n, cid, NVME_SC_ABORT_REQUESTED, 0);
		return true;
	}
	return false;
}

void nvme_events_deliver(struct nvme *n)
{
	if (!(n->csts & NVME_CSTS_RDY) || n->held & (NVME_HOLD_PAUSE | NVME_HOLD_DMA))
		return;
	for (unsigned type = 0; type < NVME_EVENT_TYPES; type++) {
		if (!n->event[type].pending || n->event[type].masked || n->naer == 0 ||
		    !nvme_cq_reserve(&n->cq[0]))
			continue;
		n->event[type].pending = false;
		n->event[type].masked = true;
		nvme_admin_complete(n, n->aer_cid[--n->naer], NVME_SC_SUCCESS,
				    type | (uint32_t)n->event[type].info << 8 |
					    (uint32_t)log_page[type] << 16);
	}
	nvme_cq_notify(&n->cq[0]);
}

void nvme_event_raise(struct nvme *n, enum nvme_event_type type, uint8_t info)
{
	n->event[type].pending = true;
	n->event[type].info = info;
	nvme_events_deliver(n);
}

void nvme_event_read(struct nvme *n, enum nvme_event_type type)
{
	n->event[type].masked = false;
}

void nvme_events_reset(struct nvme *n)
{
	n->naer = 0;
	for (unsigned type = 0; type < NVME_EVENT_TYPES; type++)
		n->event[type].pending = n->event[type].masked = false;
	__atomic_store_n(&n->raised, 0, __ATOMIC_RELAXED);
}

/* ---- doorbells that are none ----------------------------------------------------------------- */

void nvme_bad_doorbell(struct nvme *n, unsigned what)
{
	log_guest(&n->misuse, "%s: the driver wrote %s", n->dev.name,
		  what == NVME_EVENT_INVALID_DOORBELL ? "the doorbell of a queue that is not there"
						      : "a place outside its queue to a doorbell");
	__atomic_fetch_or(&n->raised, 1u << what, __ATOMIC_RELEASE);
	event_fd_signal(n->attention.fd);
}

static void attend(void *opaque, uint32_t events)
{
	struct nvme *n = opaque;
	uint32_t raised;

	(void)events;
	pthread_mutex_lock(&n->lock);
	raised = __atomic_exchange_n(&n->raised, 0, __ATOMIC_ACQUIRE);
	for (uint8_t info = 0; raised >> info; info++)
		if (raised >> info & 1)
			nvme_event_raise(n, NVME_EVENT_ERROR, info);
	pthread_mutex_unlock(&n->lock);
}

int nvme_events_init(struct nvme *n, struct error *e)
{
	int err;

	/* Edge-triggered and never read. */
	n->attention = (struct event_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.callback = attend,
		.opaque = n,
	};
	err = n->attention.fd < 0 ? -errno : event_add(n->dev.host->loop, &n->attention);
	return err ? error_set_errno(e, err, "cannot watch for events") : 0;
}

void nvme_events_destroy(struct nvme *n)
{
	event_del(&n->attention);
	if (n->attention.fd >= 0)
		close(n->attention.fd);
}

/* ---- the error log --------------------------------------------------------------------------- */

uint16_t nvme_error_note(struct nvme *n, uint16_t sqid, uint16_t cid, uint16_t status,
			 uint32_t nsid, uint64_t lba)
{
	struct nvme_error_entry *entry;

	pthread_mutex_lock(&n->errors_lock);
	entry = &n->error[n->nerrors++ % NVME_ERRORS];
	*entry = (struct nvme_error_entry){
		.count = n->nerrors,
		.sqid = sqid,
		.cid = cid,
		.status = (uint16_t)(status << 1),
		.location = 0xffff, /* no byte of the command in particular */
		.lba = lba,
		.nsid = nsid,
	};
	pthread_mutex_unlock(&n->errors_lock);
	return status | NVME_SC_MORE;
}
