/*
 * The admin queue and the commands that make and delete queues. NVM Express Base 1.4 chapter 5. It
 * is served by the vCPU that rings its doorbell, under n->lock; but for asynchronous events and
 * Format NVM every command is done when the doorbell's write returns.
 */
#include <errno.h>
#include <string.h>

#include "devices/emulated/nvme.h"

/* ---- I/O queues ------------------------------------------------------------------------------ */

/* What both kinds have: QID and QSIZE in dword 10, PC in 11, PRP1. */
static uint16_t check_queue(const struct nvme *n, const struct nvme_command *c, bool exists,
			    unsigned entry_shift, unsigned entry_shift_set)
{
	uint32_t size = (c->cdw10 >> 16) + 1;

	if (exists)
		return NVME_SC_QID_INVALID | NVME_SC_DNR;
	if (size < 2 || size > NVME_QUEUE_ENTRIES || entry_shift != entry_shift_set)
		return NVME_SC_QUEUE_SIZE | NVME_SC_DNR;
	if (!(c->cdw11 & 1)) /* CAP.CQR */
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	if (c->prp1 % NVME_PAGE)
		return NVME_SC_PRP_OFFSET | NVME_SC_DNR;
	if (!memory_map(n->dev.host->memory, c->prp1, (uint64_t)size << entry_shift, NVME_PAGE))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	return NVME_SC_SUCCESS;
}

static uint32_t *shadow_word(const struct nvme *n, uint64_t base, unsigned index)
{
	return memory_map(n->dev.host->memory, base + 4ull * index, 4, 4);
}

static void shadow_cq(struct nvme *n, struct nvme_cq *cq)
{
	unsigned index = 2u * cq->id + 1;

	if (n->shadow)
		nvme_cq_shadow(cq, shadow_word(n, n->shadow, index),
			       shadow_word(n, n->events_at, index));
}

static void shadow_sq(struct nvme *n, struct nvme_sq *sq)
{
	unsigned index = 2u * sq->id;

	if (!n->shadow)
		return;
	nvme_sq_shadow(sq, shadow_word(n, n->shadow, index), shadow_word(n, n->events_at, index));
	nvme_bind_doorbell(sq, true);
}

/* Unbinding is for all; binding only where the value is in memory. */
void nvme_bind_doorbell(struct nvme_sq *sq, bool bind)
{
	const struct bus_kick kick = {
		.addr = NVME_DOORBELLS + 8u * sq->id,
		.size = 4,
		.fd = sq->kick.fd,
	};

	if (sq->n->inline_doorbells || sq->bound == bind)
		return;
	if (bind) {
		sq->bound = pci_kick_add(&sq->n->f, NVME_BAR, &kick) == 0;
	} else {
		pci_kick_remove(&sq->n->f, NVME_BAR, &kick);
		sq->bound = false;
	}
}

static uint16_t create_cq(struct nvme *n, const struct nvme_command *c)
{
	uint32_t id = c->cdw10 & 0xffff, vector = c->cdw11 >> 16, size = (c->cdw10 >> 16) + 1;
	struct nvme_cq *cq;
	uint16_t status;

	if (id == 0 || id > n->nqueues)
		return NVME_SC_QID_INVALID | NVME_SC_DNR;
	cq = &n->cq[id];
	status = check_queue(n, c, cq->live, NVME_CQES, NVME_CC_IOCQES(n->cc));
	if (status)
		return status;
	if (vector >= n->f.msix.vectors || (vector && !pci_msix_enabled(&n->f)))
		return NVME_SC_INTERRUPT_VECTOR | NVME_SC_DNR;
	nvme_cq_start(
		cq,
		memory_map(n->dev.host->memory, c->prp1, (uint64_t)size << NVME_CQES, NVME_PAGE),
		size, c->cdw11 & 2, (uint16_t)vector);
	shadow_cq(n, cq);
	return NVME_SC_SUCCESS;
}

static uint16_t create_sq(struct nvme *n, const struct nvme_command *c)
{
	uint32_t id = c->cdw10 & 0xffff, cqid = c->cdw11 >> 16, size = (c->cdw10 >> 16) + 1;
	struct nvme_sq *sq;
	uint16_t status;

	if (cqid == 0 || cqid > n->nqueues || !n->cq[cqid].live)
		return NVME_SC_CQ_INVALID | NVME_SC_DNR;
	if (id == 0 || id > n->nqueues)
		return NVME_SC_QID_INVALID | NVME_SC_DNR;
	sq = &n->sq[id];
	status = check_queue(n, c, sq->live, NVME_SQES, NVME_CC_IOSQES(n->cc));
	if (status)
		return status;
	if (nvme_sq_start(sq,
			  memory_map(n->dev.host->memory, c->prp1, (uint64_t)size << NVME_SQES,
				     NVME_PAGE),
			  size, &n->cq[cqid]))
		return NVME_SC_INTERNAL;
	shadow_sq(n, sq);
	return NVME_SC_SUCCESS;
}

static uint16_t delete_sq(struct nvme *n, const struct nvme_command *c)
{
	uint32_t id = c->cdw10 & 0xffff;

	if (id == 0 || id > n->nqueues || !n->sq[id].live)
		return NVME_SC_QID_INVALID | NVME_SC_DNR;
	nvme_bind_doorbell(&n->sq[id], false);
	nvme_sq_stop(&n->sq[id]);
	return NVME_SC_SUCCESS;
}

static uint16_t delete_cq(struct nvme *n, const struct nvme_command *c)
{
	uint32_t id = c->cdw10 & 0xffff;

	if (id == 0 || id > n->nqueues || !n->cq[id].live)
		return NVME_SC_QID_INVALID | NVME_SC_DNR;
	for (unsigned i = 1; i <= n->nqueues; i++)
		if (n->sq[i].live && n->sq[i].cq == &n->cq[id])
			return NVME_SC_QUEUE_DELETION | NVME_SC_DNR;
	nvme_cq_stop(&n->cq[id]);
	return NVME_SC_SUCCESS;
}

/* ---- others ---------------------------------------------------------------------------------- */

/*
 * Only an asynchronous event request waits for something that may never come; what is with a block
 * backend ends by itself and is not taken back (section 5.1 leaves that to the controller).
 */
static uint16_t abort_command(struct nvme *n, const struct nvme_command *c, uint32_t *result)
{
	bool admin = (c->cdw10 & 0xffff) == 0;

	*result = admin && nvme_abort_event(n, (uint16_t)(c->cdw10 >> 16)) ? 0 : 1;
	return NVME_SC_SUCCESS;
}

static uint16_t dbbuf_config(struct nvme *n, const struct nvme_command *c)
{
	const struct guest_memory *m = n->dev.host->memory;

	if (!n->offers_shadow)
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	if (c->prp1 == 0 || c->prp1 == c->prp2 || !memory_map(m, c->prp1, NVME_PAGE, NVME_PAGE) ||
	    !memory_map(m, c->prp2, NVME_PAGE, NVME_PAGE))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	n->shadow = c->prp1;
	n->events_at = c->prp2;
	n->admin_event = shadow_word(n, n->events_at, 0);
	for (unsigned i = 0; i <= n->nqueues; i++) {
		if (n->cq[i].live)
			shadow_cq(n, &n->cq[i]);
		if (i && n->sq[i].live)
			shadow_sq(n, &n->sq[i]);
	}
	return NVME_SC_SUCCESS;
}

/* ---- serving --------------------------------------------------------------------------------- */

static uint16_t execute(struct nvme *n, const struct nvme_command *c, uint32_t *result)
{
	if (c->flags & (NVME_FLAGS_FUSE | NVME_FLAGS_PSDT))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	switch (c->opcode) {
	case NVME_ADMIN_DELETE_SQ:
		return delete_sq(n, c);
	case NVME_ADMIN_CREATE_SQ:
		return create_sq(n, c);
	case NVME_ADMIN_GET_LOG_PAGE:
		return nvme_get_log(n, c);
	case NVME_ADMIN_DELETE_CQ:
		return delete_cq(n, c);
	case NVME_ADMIN_CREATE_CQ:
		return create_cq(n, c);
	case NVME_ADMIN_IDENTIFY:
		return nvme_identify(n, c);
	case NVME_ADMIN_ABORT:
		return abort_command(n, c, result);
	case NVME_ADMIN_SET_FEATURES:
		return nvme_set_features(n, c, result);
	case NVME_ADMIN_GET_FEATURES:
		return nvme_get_features(n, c, result);
	case NVME_ADMIN_ASYNC_EVENT:
		return nvme_async_event(n, c->cid);
	case NVME_ADMIN_DBBUF_CONFIG:
		return dbbuf_config(n, c);
	case NVME_ADMIN_FORMAT_NVM:
		return nvme_format(n, c);
	default:
		return NVME_SC_INVALID_OPCODE | NVME_SC_DNR;
	}
}

void nvme_admin_complete(struct nvme *n, uint16_t cid, uint16_t status, uint32_t result)
{
	nvme_cq_post(&n->cq[0], 0, n->admin_head, cid, status, result);
}

void nvme_admin_serve(struct nvme *n)
{
	const unsigned must = NVME_CSTS_RDY, must_not = NVME_CSTS_CFS;

	if ((n->csts & (must | must_not)) != must || n->held & (NVME_HOLD_PAUSE | NVME_HOLD_DMA))
		return;
	while (n->admin_head != n->admin_tail && nvme_cq_reserve(&n->cq[0])) {
		struct nvme_command c;
		uint32_t result = 0;
		uint16_t status;

		memcpy(&c, &n->admin_entry[n->admin_head], sizeof(c));
		if (++n->admin_head == n->admin_size)
			n->admin_head = 0;
		status = execute(n, &c, &result);
		if (status != NVME_LATER)
			nvme_admin_complete(n, c.cid, status, result);
	}
	nvme_events_deliver(n);
	if (n->admin_event)
		__atomic_store_n(n->admin_event, n->admin_tail, __ATOMIC_RELAXED);
	nvme_cq_notify(&n->cq[0]);
}

void nvme_admin_ring(struct nvme *n, uint32_t value)
{
	if (!(n->csts & NVME_CSTS_RDY))
		return;
	if (value < n->admin_size)
		n->admin_tail = value;
	else
		nvme_bad_doorbell(n, NVME_EVENT_INVALID_VALUE);
	nvme_admin_serve(n);
}

int nvme_admin_start(struct nvme *n)
{
	const struct guest_memory *m = n->dev.host->memory;
	uint32_t sqs = (n->aqa & 0xfff) + 1, cqs = (n->aqa >> 16 & 0xfff) + 1;
	struct nvme_completion *cq = memory_map(m, n->acq, (uint64_t)cqs << NVME_CQES, NVME_PAGE);

	n->admin_entry = memory_map(m, n->asq, (uint64_t)sqs << NVME_SQES, NVME_PAGE);
	if (!n->admin_entry || !cq)
		return -EFAULT;
	if (sqs < 2 || cqs < 2)
		return -EINVAL;
	n->admin_size = sqs;
	n->admin_head = n->admin_tail = 0;
	nvme_cq_start(&n->cq[0], cq, cqs, true, 0);
	return 0;
}

void nvme_admin_stop(struct nvme *n)
{
	n->admin_head = n->admin_tail = n->admin_size = 0;
	n->admin_entry = NULL;
	n->admin_event = NULL;
}
