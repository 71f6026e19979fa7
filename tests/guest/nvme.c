/*
 * The NVMe controller on a real KVM: queues, data, interrupts by MSI-X and by the pin, doorbells
 * that exit and doorbells that are eventfds, and a driver that goes mad. What each command and
 * register does is tested without KVM (tests/unit/test_nvme*.c).
 *
 * mvm: --blk=emulated:@tmp/disk,hw=nvme
 * mvm: --blk=emulated:@tmp/disk,hw=nvme,doorbell=exit
 * mvm: --blk=emulated:@tmp/disk,hw=nvme,iothread=off,queues=1
 * mvm: --blk=emulated:@tmp/disk,hw=nvme,shadow=off
 * seconds: 60
 * stderr: any
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "pci.h"
#include "trap.h"

#define SOON_MS	    2000
#define ENTRIES	    16
#define VECTOR_IO   0x61
#define VECTOR_PIN  0x62
#define DOORBELLS   0x1000
#define POKES	    4000
#define CC_ENABLE   (1u | 6u << 16 | 4u << 20)
#define OP_DBBUF    0x7c
#define BLOCK	    512
#define INTX_GSI(f) (16 + ((f)->bdf >> 3) % 8)

struct command {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid;
	uint64_t reserved, mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sqhd, sqid, cid;
	volatile uint16_t status;
};

struct queue {
	struct command *sq;
	volatile struct completion *cq;
	uint32_t tail, head;
	uint16_t phase;
};

static struct pci_function nvme;
static uint64_t bar;
static struct queue queue[2];
static uint8_t *data;
static volatile uint32_t *shadow, *events; /* NULL: by register only */
static unsigned rings;			   /* register writes */

/* ---- the driver ------------------------------------------------------------------------------ */

/* As a driver does it: into memory first; the register only if the controller wants to hear. */
static void ring(unsigned word, uint32_t value)
{
	if (shadow && word >= 2) {
		uint16_t old = (uint16_t)shadow[word], new = (uint16_t)value, event;

		shadow[word] = value;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = (uint16_t)events[word];
		if ((uint16_t)(new - event - 1) >= (uint16_t)(new - old))
			return;
	}
	rings++;
	write32(bar + DOORBELLS + 4 * word, value);
}

static void push(unsigned id, const struct command *c)
{
	struct queue *q = &queue[id];

	q->sq[q->tail] = *c;
	q->tail = (q->tail + 1) % ENTRIES;
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static bool there(const struct queue *q)
{
	return (q->cq[q->head].status & 1) == q->phase;
}

/* The status of the next completion, all ones if none comes. */
static uint16_t take(unsigned id)
{
	struct queue *q = &queue[id];
	uint16_t status;

	if (!wait_for(there(q), SOON_MS))
		return 0xffff;
	status = q->cq[q->head].status >> 1;
	if (++q->head == ENTRIES) {
		q->head = 0;
		q->phase ^= 1;
	}
	ring(2 * id + 1, q->head);
	return status;
}

static uint16_t run(unsigned id, const struct command *c)
{
	push(id, c);
	ring(2 * id, queue[id].tail);
	return take(id);
}

static void queue_init(struct queue *q)
{
	q->tail = q->head = 0;
	q->phase = 1;
	memset((void *)q->cq, 0, ENTRIES * sizeof(*q->cq));
}

static bool enable(void)
{
	write32(bar + 0x14, 0);
	if (!wait_for((read32(bar + 0x1c) & 1) == 0, SOON_MS))
		return false;
	shadow = NULL;
	queue_init(&queue[0]);
	queue_init(&queue[1]);
	write32(bar + 0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	write32(bar + 0x28, (uint32_t)(uint64_t)queue[0].sq);
	write32(bar + 0x2c, 0);
	write32(bar + 0x30, (uint32_t)(uint64_t)queue[0].cq);
	write32(bar + 0x34, 0);
	write32(bar + 0x14, CC_ENABLE);
	return wait_for((read32(bar + 0x1c) & 3) == 1, SOON_MS);
}

static bool make_queues(unsigned vector)
{
	const struct command cq = { .opcode = 5,
				    .prp1 = (uint64_t)queue[1].cq,
				    .cdw10 = (ENTRIES - 1) << 16 | 1,
				    .cdw11 = vector << 16 | 3 };
	const struct command sq = { .opcode = 1,
				    .prp1 = (uint64_t)queue[1].sq,
				    .cdw10 = (ENTRIES - 1) << 16 | 1,
				    .cdw11 = 1 << 16 | 1 };

	return run(0, &cq) == 0 && run(0, &sq) == 0;
}

static struct command transfer(uint8_t opcode, uint32_t block)
{
	return (struct command){ .opcode = opcode,
				 .nsid = 1,
				 .prp1 = (uint64_t)data,
				 .prp2 = (uint64_t)data + 4096,
				 .cdw10 = block,
				 .cdw12 = 15 };
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Writes 8 KiB of a pattern, reads them back elsewhere. */
static bool data_survives(uint32_t block, uint8_t seed)
{
	struct command c = transfer(1, block);
	unsigned bad = 0;

	for (unsigned i = 0; i < 16 * BLOCK; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9) + seed);
	if (run(1, &c) != 0)
		return false;
	memset(data, 0, 16 * BLOCK);
	c = transfer(2, block);
	if (run(1, &c) != 0)
		return false;
	for (unsigned i = 0; i < 16 * BLOCK; i++)
		bad += data[i] != (uint8_t)(i * 7 + (i >> 9) + seed);
	return bad == 0;
}

static bool many(unsigned rounds)
{
	bool good = true;

	for (unsigned i = 0; i < rounds && good; i++) {
		for (unsigned n = 0; n < 8; n++) {
			struct command c = transfer(2, n);

			push(1, &c);
			ring(2, queue[1].tail);
		}
		for (unsigned n = 0; n < 8; n++)
			good &= take(1) == 0;
	}
	return good;
}

static void by_message(void)
{
	struct command c = transfer(2, 0);
	uint32_t before = irq_count[VECTOR_IO];

	msix_route(&nvme, 1, VECTOR_IO, lapic_id());
	msix_control(&nvme, MSIX_ENABLE);
	if (!check(enable() && make_queues(1), "enabled, with a queue on vector 1"))
		return;
	check(data_survives(3, 1), "what is written reads back");
	check(irq_count[VECTOR_IO] != before || irq_wait(VECTOR_IO, 1, SOON_MS),
	      "a command ends with a message");
	c.prp1 = 0xd8000000; /* no RAM */
	check_equal(run(1, &c), 0x4004 | 0x2000, "data where no RAM is: transfer error");
	check(many(20), "many commands by register");
}

/* With the values in memory the registers are eventfds, unless doorbell=exit. */
static void by_shadow(void)
{
	uint32_t *pages = alloc(8192, 4096);
	const struct command c = { .opcode = OP_DBBUF,
				   .prp1 = (uint64_t)pages,
				   .prp2 = (uint64_t)pages + 4096 };
	unsigned before;

	if (run(0, &c) != 0) {
		skip("shadow doorbells", "not offered");
		return;
	}
	shadow = pages;
	events = pages + 1024;
	before = rings;
	check(many(50), "many commands by shadow doorbells");
	check(rings - before < 50 * 16, "%u register writes for %u doorbells", rings - before,
	      50 * 16);
	check(data_survives(40, 2), "what is written reads back");
}

/* What a driver does to reset the controller: queues deleted, the bus left and taken again. */
static void again(void)
{
	const struct command sq = { .opcode = 0, .cdw10 = 1 }, cq = { .opcode = 4, .cdw10 = 1 };
	uint32_t before;

	check_equal(run(0, &sq), 0, "the submission queue is deleted");
	check_equal(run(0, &cq), 0, "and the completion queue");
	write32(bar + 0x14, 0);
	check(wait_for((read32(bar + 0x1c) & 1) == 0, SOON_MS), "disabled");
	msix_control(&nvme, 0);
	pci_write16(nvme.bdf, PCI_COMMAND, PCI_COMMAND_MEMORY);
	pci_enable(&nvme);
	msix_control(&nvme, MSIX_ENABLE);
	check(enable() && make_queues(1), "enabled again");
	before = irq_count[VECTOR_IO];
	check(data_survives(7, 5), "what is written reads back");
	check(irq_count[VECTOR_IO] != before || irq_wait(VECTOR_IO, 1, SOON_MS),
	      "a command ends with a message");
}

static void by_pin(void)
{
	struct command c = transfer(2, 0);
	unsigned gsi = INTX_GSI(&nvme);

	msix_control(&nvme, 0);
	if (!check(enable() && make_queues(0), "enabled, with the pin"))
		return;
	ioapic_route(gsi, VECTOR_PIN, lapic_id(), IOAPIC_LEVEL | IOAPIC_LOW | IOAPIC_MASKED);
	push(1, &c);
	ring(2, queue[1].tail);
	check(wait_for(there(&queue[1]), SOON_MS), "a command completes");
	check(wait_for(pci_read16(nvme.bdf, PCI_STATUS) & PCI_STATUS_INTERRUPT, SOON_MS),
	      "the pin is asserted");
	write32(bar + 0x0c, 1);
	check(!(pci_read16(nvme.bdf, PCI_STATUS) & PCI_STATUS_INTERRUPT), "INTMS takes it down");
	write32(bar + 0x10, 1);
	check_equal(take(1), 0, "the entry is taken");
	check(!(pci_read16(nvme.bdf, PCI_STATUS) & PCI_STATUS_INTERRUPT), "so does the head");
}

/* Commands and registers at random; addresses are the data, the queues themselves or no RAM. */
static void mad(void)
{
	static const uint8_t ops[] = { 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 0x7c, 0x80 };
	uint64_t state = 42, r;

	for (unsigned i = 0; i < POKES; i++) {
		struct command *c = &queue[i & 1].sq[i / 2 % ENTRIES];

		r = random64(&state);
		c->opcode = r & 0x70 ? ops[(r >> 8) % ARRAY_SIZE(ops)] : (uint8_t)(r >> 8);
		c->flags = 0;
		c->nsid = 1;
		c->cdw10 = (uint32_t)(r >> 32) >> (r >> 16 & 31);
		c->cdw11 = (uint32_t)(r >> 24) >> (r >> 20 & 31);
		c->cdw12 = (uint32_t)(r >> 28) >> (r >> 12 & 31);
		c->prp1 = r & 2 ? (uint64_t)data : (uint64_t)queue[0].sq;
		c->prp2 = r & 4 ? (uint64_t)data + 4096 : r & 8 ? 0xd8000000 : (uint64_t)data;
		if (i % 8 == 0)
			write32(bar + DOORBELLS + 4 * (r >> 40 & 7), r >> 48 & 31);
		if (i % 64 == 0 && (r >> 20 & 3))
			write32(bar + 4 * (r >> 30 & 15), (uint32_t)r);
		if (i % 512 == 0 && enable())
			make_queues(0);
	}
	check(enable() && make_queues(0) && data_survives(1, 9), "after all that it works");
}

void main(void)
{
	irq_init();
	if (!check(pci_find(0x1b36, 0x0010, 0, &nvme), "the controller is there"))
		return;
	bar = nvme.bar[0].address;
	pci_enable(&nvme);
	for (unsigned i = 0; i < 2; i++) {
		queue[i].sq = alloc(4096, 4096);
		queue[i].cq = alloc(4096, 4096);
	}
	data = alloc(16384, 4096);
	check_equal(read32(bar + 8), 0x00010400, "version 1.4");
	by_message();
	by_shadow();
	again();
	by_pin();
	mad();
}
