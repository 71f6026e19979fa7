/*
 * The 8259A pair against its data sheet: initialization, priorities, masks, edge and level inputs,
 * the kinds of EOI, rotation, special modes, poll, and the cascade.
 */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "devices/emulated/i8259.h"

#define EOI	     OCW2_EOI
#define EOI_OF(ir)   (OCW2_EOI | OCW2_SL | (ir))
#define READ_IRR     (OCW3 | OCW3_RR)
#define READ_ISR     (OCW3 | OCW3_RR | OCW3_RIS)
#define SMM_ON	     (OCW3 | OCW3_ESMM | OCW3_SMM)
#define SMM_OFF	     (OCW3 | OCW3_ESMM)
#define MASTER_BASE  0x30
#define SLAVE_BASE   0x40
#define SPURIOUS(b)  ((b) + 7)
#define OUT(u, a, v) i8259_write(&pic, u, a, v)
#define IN(u, a)     i8259_read(&pic, u, a)

static struct i8259 pic;

/* As a PC's firmware does; icw4 besides 8086 mode. */
static void initialize(uint8_t icw4)
{
	for (unsigned u = 0; u < 2; u++) {
		OUT(u, 0, ICW1 | ICW1_IC4);
		OUT(u, 1, u ? SLAVE_BASE : MASTER_BASE);
		OUT(u, 1, u ? 2 : 1 << 2);
		OUT(u, 1, ICW4_UPM | icw4);
	}
}

static void set_up(void)
{
	i8259_reset(&pic);
	initialize(0);
}

TestSuite(i8259, .init = set_up);

static void raise(unsigned input)
{
	i8259_set_input(&pic, input, true);
}

static void lower(unsigned input)
{
	i8259_set_input(&pic, input, false);
}

static void pulse(unsigned input)
{
	lower(input);
	raise(input);
}

static uint8_t isr(unsigned unit)
{
	OUT(unit, 0, READ_ISR);
	return IN(unit, 0);
}

static uint8_t irr(unsigned unit)
{
	OUT(unit, 0, READ_IRR);
	return IN(unit, 0);
}

/* INT is active, and INTA gives this vector. */
static void takes(uint8_t vector)
{
	uint8_t got;

	cr_assert(i8259_int(&pic), "vector %02x is not asked for", vector);
	got = i8259_inta(&pic);
	cr_assert_eq(got, vector, "%02x for %02x", got, vector);
}

Test(i8259, after_power_on_it_is_silent)
{
	i8259_reset(&pic);
	for (unsigned i = 0; i < I8259_INPUTS; i++)
		raise(i);
	cr_assert(!i8259_int(&pic));
}

Test(i8259, initialization_words)
{
	OUT(0, 1, 0xa5);
	cr_assert_eq(IN(0, 1), 0xa5, "OCW1 is the mask");
	OUT(0, 0, ICW1 | ICW1_IC4);
	OUT(0, 1, 0x57); /* the low three bits are the IR */
	OUT(0, 1, 4);
	OUT(0, 1, ICW4_UPM);
	cr_assert_eq(IN(0, 1), 0, "ICW1 clears the mask");
	pulse(3);
	takes(0x53);
	cr_assert_eq(isr(0), 1 << 3);
	/* Single and without ICW4: the second byte is the last. */
	OUT(0, 0, ICW1 | ICW1_SNGL);
	OUT(0, 1, 0x60);
	OUT(0, 1, 0xfe);
	cr_assert_eq(IN(0, 1), 0xfe, "then it is OCW1 again");
	cr_assert_eq(isr(0), 0);
	cr_assert_eq(pic.unit[0].icw4, 0, "no ICW4: all its functions are off");
}

Test(i8259, icw1_resets_the_edge_sense)
{
	raise(4);
	cr_assert(i8259_int(&pic));
	initialize(0);
	cr_assert(!i8259_int(&pic), "an input that is up must fall and rise");
	pulse(4);
	takes(MASTER_BASE + 4);
}

Test(i8259, fully_nested_priorities)
{
	raise(5);
	raise(3);
	raise(7);
	takes(MASTER_BASE + 3);
	cr_assert(!i8259_int(&pic), "lower ones wait");
	raise(1);
	takes(MASTER_BASE + 1);
	cr_assert_eq(isr(0), 1 << 1 | 1 << 3);
	OUT(0, 0, EOI);
	cr_assert_eq(isr(0), 1 << 3, "a non-specific EOI ends the highest");
	cr_assert(!i8259_int(&pic));
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 5);
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 7);
	OUT(0, 0, EOI);
	cr_assert(!i8259_int(&pic));
	cr_assert_eq(isr(0), 0);
}

Test(i8259, masks)
{
	OUT(0, 1, 1 << 4);
	raise(4);
	cr_assert(!i8259_int(&pic));
	cr_assert_eq(irr(0), 1 << 4, "the request is there");
	OUT(0, 1, 0);
	takes(MASTER_BASE + 4);
}

Test(i8259, edges_interrupt_once)
{
	raise(6);
	takes(MASTER_BASE + 6);
	OUT(0, 0, EOI);
	cr_assert(!i8259_int(&pic), "still up, no edge");
	cr_assert_eq(irr(0), 0);
	pulse(6);
	takes(MASTER_BASE + 6);
}

Test(i8259, a_request_that_goes_is_a_spurious_one)
{
	raise(4);
	cr_assert(i8259_int(&pic));
	lower(4);
	cr_assert(!i8259_int(&pic));
	cr_assert_eq(i8259_inta(&pic), SPURIOUS(MASTER_BASE));
	cr_assert_eq(isr(0), 0, "of which nothing is in service");
}

Test(i8259, spurious_of_the_slave)
{
	raise(12);
	cr_assert(i8259_int(&pic));
	OUT(1, 1, 0xff); /* too late for the CPU, which acknowledges already */
	pic.unit[0].irr |= 1 << 2;
	pic.unit[0].level |= 1 << 2;
	cr_assert_eq(i8259_inta(&pic), SPURIOUS(SLAVE_BASE));
	cr_assert_eq(isr(1), 0);
	cr_assert_eq(isr(0), 1 << 2, "the master knows no better");
}

Test(i8259, levels_interrupt_again)
{
	i8259_elcr_write(&pic, 0, 1 << 5);
	raise(5);
	takes(MASTER_BASE + 5);
	cr_assert_eq(irr(0), 1 << 5, "IRR follows the input");
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 5);
	lower(5);
	OUT(0, 0, EOI);
	cr_assert(!i8259_int(&pic));
	/* LTIM does the same for all. */
	OUT(0, 0, ICW1 | ICW1_IC4 | ICW1_LTIM);
	OUT(0, 1, MASTER_BASE);
	OUT(0, 1, 4);
	OUT(0, 1, ICW4_UPM);
	raise(1);
	takes(MASTER_BASE + 1);
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 1);
}

Test(i8259, elcr_keeps_what_must_be_edges)
{
	i8259_elcr_write(&pic, 0, 0xff);
	i8259_elcr_write(&pic, 1, 0xff);
	cr_assert_eq(i8259_elcr_read(&pic, 0), 0xf8);
	cr_assert_eq(i8259_elcr_read(&pic, 1), 0xde);
}

Test(i8259, specific_eoi)
{
	raise(4);
	takes(MASTER_BASE + 4);
	raise(2); /* nobody's */
	raise(1);
	takes(MASTER_BASE + 1);
	OUT(0, 0, EOI_OF(4));
	cr_assert_eq(isr(0), 1 << 1);
	OUT(0, 0, EOI_OF(1));
	cr_assert_eq(isr(0), 0);
	OUT(0, 0, EOI_OF(6));
	OUT(0, 0, EOI);
	cr_assert_eq(isr(0), 0, "nothing to end");
}

Test(i8259, rotation)
{
	raise(4);
	takes(MASTER_BASE + 4);
	OUT(0, 0, OCW2_R | EOI);
	pulse(4);
	raise(5);
	takes(MASTER_BASE + 5);
	OUT(0, 0, OCW2_R | EOI_OF(5));
	pulse(5);
	raise(6);
	takes(MASTER_BASE + 6);
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 4);
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 5);
	OUT(0, 0, EOI);
	/* Set priority: 2 has the lowest, so 3 the highest. */
	OUT(0, 0, OCW2_R | OCW2_SL | 2);
	pulse(0);
	pulse(3);
	takes(MASTER_BASE + 3);
	OUT(0, 0, OCW2_SL | 7); /* no operation */
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 0);
}

Test(i8259, automatic_eoi)
{
	initialize(ICW4_AEOI);
	raise(3);
	raise(4);
	takes(MASTER_BASE + 3);
	cr_assert_eq(isr(0), 0);
	takes(MASTER_BASE + 4);
	OUT(0, 0, OCW2_R); /* rotate in it */
	pulse(3);
	takes(MASTER_BASE + 3);
	pulse(3);
	pulse(4);
	takes(MASTER_BASE + 4);
	OUT(0, 0, 0); /* no more; 4 keeps the lowest priority */
	pulse(4);
	takes(MASTER_BASE + 3);
	pulse(3);
	takes(MASTER_BASE + 3);
	takes(MASTER_BASE + 4);
}

Test(i8259, special_mask_mode)
{
	raise(3);
	takes(MASTER_BASE + 3);
	raise(6);
	cr_assert(!i8259_int(&pic));
	OUT(0, 1, 1 << 3);
	cr_assert(!i8259_int(&pic), "masked, 3 still keeps 6 back");
	OUT(0, 0, SMM_ON);
	takes(MASTER_BASE + 6);
	pulse(3);
	cr_assert(!i8259_int(&pic), "3 itself is masked");
	OUT(0, 0, EOI);
	cr_assert_eq(isr(0), 1 << 3, "a non-specific EOI passes over what is masked");
	OUT(0, 0, SMM_OFF);
	pulse(6);
	cr_assert(!i8259_int(&pic));
	OUT(0, 0, EOI_OF(3));
	takes(MASTER_BASE + 6);
}

Test(i8259, poll)
{
	OUT(0, 0, OCW3 | OCW3_P);
	cr_assert_eq(IN(0, 0), 0, "no request");
	raise(5);
	OUT(0, 0, OCW3 | OCW3_P);
	cr_assert_eq(IN(0, 0), 0x80 | 5);
	cr_assert_eq(isr(0), 1 << 5, "it was an acknowledge");
	cr_assert(!i8259_int(&pic));
	raise(11);
	OUT(1, 0, OCW3 | OCW3_P);
	cr_assert_eq(IN(1, 1), 0x80 | 3, "at either address");
	cr_assert_eq(isr(1), 1 << 3);
	cr_assert(!i8259_int(&pic), "the slave says no more");
}

Test(i8259, cascade)
{
	raise(12);
	takes(SLAVE_BASE + 4);
	cr_assert_eq(isr(0), 1 << 2);
	cr_assert_eq(isr(1), 1 << 4);
	raise(9);
	cr_assert(!i8259_int(&pic), "a higher one of the slave waits for the master's EOI");
	raise(0);
	takes(MASTER_BASE + 0);
	OUT(0, 0, EOI);
	OUT(0, 0, EOI);
	takes(SLAVE_BASE + 1);
	OUT(1, 0, EOI);
	OUT(0, 0, EOI);
	cr_assert_eq(isr(1), 1 << 4);
	OUT(1, 0, EOI);
	cr_assert(!i8259_int(&pic));
	raise(14);
	raise(3);
	takes(SLAVE_BASE + 6);
	OUT(1, 0, EOI);
	OUT(0, 0, EOI);
	takes(MASTER_BASE + 3);
}

Test(i8259, special_fully_nested_mode)
{
	initialize(ICW4_SFNM);
	raise(12);
	takes(SLAVE_BASE + 4);
	raise(13);
	cr_assert(!i8259_int(&pic), "the slave's own order holds");
	raise(9);
	takes(SLAVE_BASE + 1);
	cr_assert_eq(isr(1), 1 << 1 | 1 << 4);
	raise(4);
	cr_assert(!i8259_int(&pic));
	raise(0);
	takes(MASTER_BASE + 0);
}

Test(i8259, a_slave_masked_at_the_master)
{
	OUT(0, 1, 1 << 2);
	raise(8);
	cr_assert(!i8259_int(&pic));
	cr_assert_eq(irr(0), 1 << 2);
	OUT(0, 1, 0);
	takes(SLAVE_BASE + 0);
}

Test(i8259, registers_are_declared)
{
	cr_assert_str_eq(reg_name(&i8259_registers, 0, REG_WRITE, 0), "ICW1/OCW2/OCW3");
	cr_assert_str_eq(reg_name(&i8259_registers, 1, REG_READ, 0), "IMR/ICW2-4");
	cr_assert_str_eq(reg_name(&i8259_elcr_registers, 1, REG_RW, 0), "ELCR2");
}

/* Whatever is written: what is acknowledged was asked for, and an EOI of each ends everything. */
Test(i8259, hostile_pokes)
{
	srandom(8259);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned r = (unsigned)random(), unit = r >> 8 & 1;
		uint8_t value = (uint8_t)r;

		switch (r >> 9 & 7) {
		case 0:
		case 1:
			OUT(unit, r >> 12 & 1, value);
			break;
		case 2:
			IN(unit, r >> 12 & 1);
			break;
		case 3:
			i8259_elcr_write(&pic, unit, value);
			break;
		case 4:
			if (i8259_int(&pic)) {
				uint8_t vector = i8259_inta(&pic);

				cr_assert((vector & 0xf8) == pic.unit[0].icw2 ||
					  (vector & 0xf8) == pic.unit[1].icw2);
			}
			break;
		default:
			i8259_set_input(&pic, value % 20, r >> 12 & 1);
			break;
		}
	}
	for (unsigned i = 0; i < I8259_INPUTS; i++)
		lower(i);
	i8259_reset(&pic);
	set_up();
	raise(7);
	takes(MASTER_BASE + 7);
}
