/*
 * The controller's registers in BAR 0: the table, enabling and disabling, shutdown, and doorbells.
 * NVM Express Base 1.4 sections 3.1 and 7.6. Registers are touched by vCPU threads under n->lock;
 * the doorbells of I/O queues go past it.
 */
#include "devices/emulated/nvme.h"
#include "devices/registers.h"

enum { CAP, VS, INTMS, INTMC, CC, CSTS, AQA, ASQ, ACQ, DOORBELL, REGS };

/* 64-bit registers may be accessed by halves, and are always taken so. */
static const struct reg registers[REGS] = {
	[CAP] = { "CAP", 0x00, .width = 4, .span = 8, .access = REG_READ,
		  .reset = NVME_CAP_MQES(NVME_QUEUE_ENTRIES - 1) | NVME_CAP_CQR | NVME_CAP_TO(60) |
			   NVME_CAP_CSS_NVM },
	[VS] = { "VS", 0x08, .width = 4, .access = REG_READ, .reset = 0x00010400 },
	[INTMS] = { "INTMS", 0x0c, .width = 4, .access = REG_RW, .writable = 0xffffffff },
	[INTMC] = { "INTMC", 0x10, .width = 4, .access = REG_RW, .clear = 0xffffffff },
	[CC] = { "CC", 0x14, .width = 4, .access = REG_RW, .writable = NVME_CC_WRITABLE },
	[CSTS] = { "CSTS", 0x1c, .width = 4, .access = REG_READ },
	[AQA] = { "AQA", 0x24, .width = 4, .access = REG_RW, .writable = 0x0fff0fff },
	[ASQ] = { "ASQ", 0x28, .width = 4, .span = 8, .access = REG_RW, .writable = ~0xfffull },
	[ACQ] = { "ACQ", 0x30, .width = 4, .span = 8, .access = REG_RW, .writable = ~0xfffull },
	/* SQ0TDBL, CQ0HDBL, SQ1TDBL …: CAP.DSTRD is 0. Reading them gives nothing. */
	[DOORBELL] = { "SQyTDBL/CQyHDBL", NVME_DOORBELLS, .width = 4,
		       .span = NVME_MSIX_TABLE - NVME_DOORBELLS, .access = REG_WRITE },
};

const struct reg_table nvme_registers = { registers, REGS };

/* ---- enabling and disabling ------------------------------------------------------------------ */

void nvme_fatal(struct nvme *n, const char *why)
{
	n->csts |= NVME_CSTS_CFS;
	log_guest(&n->misuse, "%s: %s; the controller stops until it is reset", n->dev.name, why);
}

static void enable(struct nvme *n)
{
	if (NVME_CC_CSS(n->cc) || NVME_CC_MPS(n->cc) || NVME_CC_AMS(n->cc))
		nvme_fatal(n, "CC asks for a command set, page size or arbitration that CAP lacks");
	else if (nvme_admin_start(n))
		nvme_fatal(n, "the admin queues are not in memory, or too small");
	else
		n->csts |= NVME_CSTS_RDY;
}

void nvme_disable(struct nvme *n)
{
	n->format.stop = true;
	block_queue_drain(n->backend);
	n->format.stop = n->format.busy = n->format.waiting = false;
	for (unsigned i = 1; i <= n->nqueues; i++) {
		nvme_bind_doorbell(&n->sq[i], false);
		nvme_sq_stop(&n->sq[i]);
	}
	nvme_admin_stop(n);
	nvme_events_reset(n);
	for (unsigned i = 0; i <= n->nqueues; i++)
		nvme_cq_stop(&n->cq[i]);
	n->shadow = n->events_at = 0;
	n->held &= ~NVME_HOLD_FORMAT;
	nvme_features_reset(n);
	n->cc = n->csts = 0;
	__atomic_store_n(&n->intms, 0, __ATOMIC_RELAXED);
	nvme_pin_update(n);
}

void nvme_regs_reset(struct nvme *n)
{
	n->aqa = 0;
	n->asq = n->acq = 0;
}

/* ---- shutdown -------------------------------------------------------------------------------- */

static void shut_down(struct block_request *block, int result)
{
	struct nvme *n = (struct nvme *)((char *)block - offsetof(struct nvme, shutdown));

	(void)result; /* there is nobody to tell */
	n->flushing = false;
	if (NVME_CC_SHN(n->cc))
		n->csts = (n->csts & ~NVME_CSTS_SHST) | NVME_CSTS_SHST_DONE;
}

static void begin_shutdown(struct nvme *n)
{
	n->csts = (n->csts & ~NVME_CSTS_SHST) | NVME_CSTS_SHST_BUSY;
	if (n->flushing)
		return;
	n->flushing = true;
	n->shutdown = (struct block_request){ .op = BLOCK_FLUSH, .done = shut_down };
	block_queue_submit(n->backend, &n->shutdown);
	block_queue_kick(n->backend);
}

static void write_cc(struct nvme *n, uint32_t value)
{
	uint32_t old = n->cc;

	if ((old & NVME_CC_EN) && !(value & NVME_CC_EN)) {
		nvme_disable(n);
		return;
	}
	n->cc = value;
	if (!(old & NVME_CC_EN) && (value & NVME_CC_EN))
		enable(n);
	if (NVME_CC_SHN(value) && !NVME_CC_SHN(old))
		begin_shutdown(n);
	else if (!NVME_CC_SHN(value))
		n->csts &= ~NVME_CSTS_SHST;
}

/* ---- doorbells ------------------------------------------------------------------------------- */

static void ring_sq(struct nvme *n, unsigned id, uint32_t value)
{
	if (id > n->nqueues) {
		nvme_bad_doorbell(n, NVME_EVENT_INVALID_DOORBELL);
	} else if (id) {
		nvme_sq_ring(&n->sq[id], value);
	} else {
		pthread_mutex_lock(&n->lock);
		nvme_admin_ring(n, value);
		pthread_mutex_unlock(&n->lock);
	}
}

/* Who waits for room in it goes on. */
static void wake_all(struct nvme *n, const struct nvme_cq *cq)
{
	if (cq->id == 0) {
		pthread_mutex_lock(&n->lock);
		nvme_admin_serve(n);
		pthread_mutex_unlock(&n->lock);
		return;
	}
	nvme_sq_wake_all(n);
}

static void ring_cq(struct nvme *n, unsigned id, uint32_t value)
{
	bool wake = false;

	if (id > n->nqueues || !__atomic_load_n(&n->cq[id].live, __ATOMIC_RELAXED))
		nvme_bad_doorbell(n, NVME_EVENT_INVALID_DOORBELL);
	else if (!nvme_cq_set_head(&n->cq[id], value, &wake))
		nvme_bad_doorbell(n, NVME_EVENT_INVALID_VALUE);
	else if (wake)
		wake_all(n, &n->cq[id]);
}

static void ring(struct nvme *n, uint64_t offset, uint32_t value)
{
	unsigned index = (unsigned)(offset - NVME_DOORBELLS) / 4;

	if (index & 1)
		ring_cq(n, index / 2, value);
	else
		ring_sq(n, index / 2, value);
}

/* ---- accesses -------------------------------------------------------------------------------- */

static uint32_t half_of(uint64_t value, uint64_t offset)
{
	return (uint32_t)(offset & 4 ? value >> 32 : value);
}

static uint64_t with_half(int reg, uint64_t old, uint64_t offset, uint32_t half)
{
	uint64_t value = offset & 4 ? (old & 0xffffffff) | (uint64_t)half << 32
				    : (old & ~0xffffffffull) | half;

	return reg_merge(&registers[reg], old, value);
}

static uint32_t read_reg(struct nvme *n, int reg, uint64_t offset)
{
	switch (reg) {
	case INTMS:
	case INTMC:
		return n->intms;
	case CC:
		return n->cc;
	case CSTS:
		return n->csts;
	case AQA:
		return n->aqa;
	case ASQ:
		return half_of(n->asq, offset - registers[ASQ].offset);
	case ACQ:
		return half_of(n->acq, offset - registers[ACQ].offset);
	default:
		return half_of(registers[reg].reset, offset - registers[reg].offset);
	}
}

static void write_reg(struct nvme *n, int reg, uint64_t offset, uint32_t value)
{
	switch (reg) {
	case INTMS:
		__atomic_store_n(&n->intms, n->intms | value, __ATOMIC_RELAXED);
		nvme_pin_update(n);
		break;
	case INTMC:
		__atomic_store_n(&n->intms, n->intms & ~value, __ATOMIC_RELAXED);
		nvme_pin_update(n);
		break;
	case CC:
		write_cc(n, (uint32_t)reg_merge(&registers[CC], 0, value));
		break;
	case AQA:
		n->aqa = (uint32_t)reg_merge(&registers[AQA], 0, value);
		break;
	case ASQ:
		n->asq = with_half(ASQ, n->asq, offset - registers[ASQ].offset, value);
		break;
	case ACQ:
		n->acq = with_half(ACQ, n->acq, offset - registers[ACQ].offset, value);
		break;
	default:
		break;
	}
}

static uint32_t read32(struct nvme *n, uint64_t offset)
{
	int reg = reg_find(&nvme_registers, offset, 4, REG_READ, 0);
	uint32_t value = 0; /* reserved registers read so */

	if (reg < 0)
		return value;
	pthread_mutex_lock(&n->lock);
	value = read_reg(n, reg, offset);
	pthread_mutex_unlock(&n->lock);
	return value;
}

static void write32(struct nvme *n, uint64_t offset, uint32_t value)
{
	int reg;

	if (offset >= NVME_DOORBELLS && offset < NVME_MSIX_TABLE) {
		ring(n, offset, value);
		return;
	}
	reg = reg_find(&nvme_registers, offset, 4, REG_WRITE, 0);
	if (reg < 0)
		return;
	pthread_mutex_lock(&n->lock);
	write_reg(n, reg, offset, value);
	pthread_mutex_unlock(&n->lock);
}

/* Words and pairs of words, aligned; section 3.1 leaves the rest undefined. */
static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct nvme *n = opaque;

	if (size < 4 || offset % 4)
		return 0;
	if (size == 4)
		return read32(n, offset);
	return read32(n, offset) | (uint64_t)read32(n, offset + 4) << 32;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct nvme *n = opaque;

	if (size < 4 || offset % 4)
		return;
	write32(n, offset, (uint32_t)value);
	if (size == 8)
		write32(n, offset + 4, (uint32_t)(value >> 32));
}

static const char *bar_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	int reg = reg_find(&nvme_registers, offset, size < 4 ? size : 4,
			   write ? REG_WRITE : REG_READ, 0);

	(void)opaque;
	if (reg == DOORBELL)
		return (offset - NVME_DOORBELLS) / 4 & 1 ? "CQyHDBL" : "SQyTDBL";
	return reg < 0 ? NULL : registers[reg].name;
}

const struct bus_ops nvme_bar_ops = { .read = bar_read, .write = bar_write, .name = bar_name };
