/*
 * The IDE controller on a real KVM: sectors by string instructions on the data port and by the bus
 * master, its lines at the I/O APIC, and a driver that goes mad. What each command and register
 * does is tested without KVM (tests/unit/test_ide*.c).
 *
 * mvm: --blk=emulated:@tmp/disk
 * mvm: --blk=emulated:@tmp/disk,iothread=off
 * seconds: 60
 * stderr: any
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "pci.h"
#include "trap.h"

#define SOON_MS 2000
#define VECTOR	0x63
#define BASE	0x1f0
#define CONTROL 0x3f6
#define GSI	14
#define SECTOR	512
#define POKES	8000
#define BSY	0x80
#define DRQ	0x08
#define READY	0x50

static struct pci_function ide;
static uint16_t bm;
static uint32_t *prd;
static uint8_t *data;

static void insw(void *to, unsigned words)
{
	uint64_t n = words;

	__asm__ volatile("rep insw" : "+D"(to), "+c"(n) : "d"((uint16_t)BASE) : "memory");
}

static void outsw(const void *from, unsigned words)
{
	uint64_t n = words;

	__asm__ volatile("rep outsw" : "+S"(from), "+c"(n) : "d"((uint16_t)BASE) : "memory");
}

static uint8_t settle(void)
{
	wait_for(!(in8(CONTROL) & BSY), SOON_MS);
	return in8(CONTROL);
}

static void issue(uint8_t command, uint32_t lba, uint8_t count)
{
	out8(BASE + 6, (uint8_t)(0xe0 | (lba >> 24 & 0xf)));
	out8(BASE + 2, count);
	out8(BASE + 3, (uint8_t)lba);
	out8(BASE + 4, (uint8_t)(lba >> 8));
	out8(BASE + 5, (uint8_t)(lba >> 16));
	out8(BASE + 7, command);
}

static void pattern(uint8_t seed)
{
	for (unsigned i = 0; i < 16 * SECTOR; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9) + seed);
}

static bool is_pattern(uint8_t seed, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		if (data[i] != (uint8_t)(i * 7 + (i >> 9) + seed))
			return false;
	return true;
}

static void by_data_port(void)
{
	pattern(1);
	issue(0x30, 9, 2);
	check_equal(settle(), READY | DRQ, "WRITE SECTORS wants data");
	outsw(data, SECTOR / 2);
	check_equal(settle(), READY | DRQ, "and more");
	outsw(data + SECTOR, SECTOR / 2);
	check_equal(settle(), READY, "and has all");
	memset(data, 0, 2 * SECTOR);
	issue(0x20, 9, 2);
	for (unsigned i = 0; i < 2; i++) {
		settle();
		insw(data + i * SECTOR, SECTOR / 2);
	}
	check(is_pattern(1, 2 * SECTOR), "READ SECTORS gives them back");
	check_equal(in8(BASE + 7), READY, "and is done");
}

static uint8_t dma(bool in, uint32_t lba)
{
	uint32_t before = irq_count[VECTOR];

	out32((uint16_t)(bm + 4), (uint32_t)(uint64_t)prd);
	out8((uint16_t)(bm + 2), 0x06);
	out8(bm, in ? 8 : 0);
	issue(in ? 0xc8 : 0xca, lba, 16);
	out8(bm, in ? 9 : 1);
	if (irq_count[VECTOR] == before && !irq_wait(VECTOR, 1, SOON_MS))
		return 0xff;
	out8(bm, 0);
	return in8(BASE + 7);
}

static void by_bus_master(void)
{
	prd[0] = (uint32_t)(uint64_t)data;
	prd[1] = 4096;
	prd[2] = (uint32_t)(uint64_t)data + 4096;
	prd[3] = 4096 | 0x80000000u;
	in8(BASE + 7);
	ioapic_route(GSI, VECTOR, lapic_id(), 0);
	pattern(2);
	check_equal(dma(false, 100), READY, "WRITE DMA ends with an interrupt");
	check_equal(in8((uint16_t)(bm + 2)) & 7, 4, "the bus master is done");
	memset(data, 0, 16 * SECTOR);
	check_equal(dma(true, 100), READY, "READ DMA too");
	check(is_pattern(2, 16 * SECTOR), "with what was written");
	prd[0] = 0xd8000000; /* no RAM */
	out8(CONTROL, 2);
	issue(0xc8, 0, 16);
	out8((uint16_t)(bm + 2), 6);
	out8(bm, 9);
	check(wait_for((in8((uint16_t)(bm + 2)) & 3) == 2, SOON_MS),
	      "no RAM: the bus master fails");
	out8(bm, 0);
}

static void reset(void)
{
	out8(bm, 0);
	out8(CONTROL, 4 | 2);
	out8(CONTROL, 2);
}

static void mad(void)
{
	uint64_t state = 7, r;

	for (unsigned i = 0; i < POKES; i++) {
		r = random64(&state);
		switch (r & 7) {
		case 0:
			issue((uint8_t)(r >> 8), (uint32_t)(r >> 16) & 0x7ff, (uint8_t)(r >> 48));
			break;
		case 1:
			for (unsigned w = 0; w < 8; w++) {
				prd[2 * w] = r >> w & 8 ? 0xd8000000 : (uint32_t)(uint64_t)data;
				prd[2 * w + 1] = (uint32_t)random64(&state) & 0x80001fff;
			}
			out32((uint16_t)(bm + 4), (uint32_t)(uint64_t)prd);
			break;
		case 2:
			out8(bm, (uint8_t)(r >> 8) & 9);
			break;
		case 3:
			insw(data, r >> 8 & 511);
			break;
		case 4:
			outsw(data, r >> 8 & 511);
			break;
		case 5:
			out8((uint16_t)(BASE + (r >> 8 & 7)), (uint8_t)(r >> 16));
			break;
		case 6:
			in8((uint16_t)(BASE + (r >> 8 & 7)));
			break;
		case 7:
			if ((r >> 8 & 15) == 0)
				reset();
			break;
		}
	}
	reset();
	ioapic_mask(GSI);
	out8(BASE + 6, 0xe0);
	by_data_port();
}

void main(void)
{
	irq_init();
	if (!check(pci_find(0x8086, 0x24cb, 0, &ide), "the controller is there"))
		return;
	pci_write8(ide.bdf, 9, 0x8a); /* compatibility mode */
	check(in8(BASE + 7) == 0xff, "its ports answer to nobody before I/O is enabled");
	pci_enable(&ide);
	bm = (uint16_t)ide.bar[4].address;
	prd = alloc(65536, 65536);
	data = alloc(65536, 65536);
	check_equal(in8(BASE + 7), READY, "and then the disk is ready");
	out8(CONTROL, 2);
	by_data_port();
	out8(CONTROL, 0);
	by_bus_master();
	mad();
}
