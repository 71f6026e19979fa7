/*
 * Accesses to the 82540EM's registers, memory-mapped and through the IOADDR/IODATA window: 317453
 * sections 13.1 to 13.3. In: bus accesses by vCPUs. The table says what is there and which bits
 * stick; what else a register does is here.
 *
 * Registers are 32 bits wide. A read of less gives its part; a write of less is ignored, as the
 * manual has it for the window. 64 bits are two registers.
 *
 * Interrupt registers, STATUS and tails are served without the card's lock: see e1000_internal.h.
 */
#include "devices/emulated/e1000_internal.h"
#include "vmm/trace.h"

#define MDIC_KEEPS                                                                                 \
	(MDIC_DATA | 0x1fu << MDIC_REG_SHIFT | 0x1fu << MDIC_PHY_SHIFT | MDIC_OP | MDIC_I)

static const struct reg *row_of(const struct e1000 *e, unsigned offset)
{
	uint8_t row = e->row[offset / 4];

	return row == E1000_NO_ROW ? NULL : &e1000_registers.reg[row];
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool is_statistic(unsigned offset)
{
	return offset >= E1000_CRCERRS && offset <= E1000_TSCTFC;
}

/* The low halves of 64-bit counters are cleared with the high ones. */
static uint32_t read_statistic(struct e1000 *e, unsigned offset)
{
	uint32_t value = e1000_get(e, offset);

	switch (offset) {
	case E1000_GORCL:
	case E1000_GOTCL:
	case E1000_TORL:
	case E1000_TOTL:
		return value;
	case E1000_GORCH:
	case E1000_GOTCH:
	case E1000_TORH:
	case E1000_TOTH:
		e->reg[(offset - 4) / 4] = 0;
		break;
	}
	e->reg[offset / 4] = 0;
	return value;
}

static uint32_t read_locked(struct e1000 *e, unsigned offset)
{
	if (is_statistic(offset))
		return read_statistic(e, offset);
	switch (offset) {
	case E1000_CTRL_DUP:
		return e1000_get(e, E1000_CTRL);
	case E1000_EECD:
		return (e1000_get(e, offset) & ~(EECD_DO | EECD_GNT)) |
		       (e->eeprom.data_out ? EECD_DO : 0) |
		       (e1000_get(e, offset) & EECD_REQ ? EECD_GNT : 0);
	}
	return e1000_get(e, offset);
}

static uint32_t read_register(struct e1000 *e, unsigned offset)
{
	const struct reg *r;
	uint32_t value;

	switch (offset) {
	case E1000_ICR:
	case E1000_IMS:
	case E1000_ITR:
		return e1000_irq_read(e, offset);
	case E1000_STATUS:
		return __atomic_load_n(&e->status, __ATOMIC_SEQ_CST) |
		       (e1000_irq_paused(e) ? STATUS_TXOFF : 0);
	case E1000_TDT:
		if (e->doorbells && e1000_doorbells_drain(e))
			e1000_signal(&e->tx.kick);
		return __atomic_load_n(&e->tx.tail, __ATOMIC_SEQ_CST);
	case E1000_RDT:
		return __atomic_load_n(&e->rx.tail, __ATOMIC_SEQ_CST);
	}
	if (offset < E1000_CSR_SIZE) {
		r = row_of(e, offset);
		if (!r || !(r->access & REG_READ))
			return 0;
	}
	e1000_lock(e);
	value = read_locked(e, offset);
	e1000_unlock(e);
	return value;
}

/* ---- writing; lock held ---------------------------------------------------------------------- */

static void write_ctrl(struct e1000 *e, uint32_t value)
{
	uint32_t old = e1000_get(e, E1000_CTRL);
	const struct reg *r = row_of(e, E1000_CTRL);

	if (value & CTRL_RST) {
		e1000_reset_mac(e);
		return;
	}
	e->reg[E1000_CTRL / 4] = (uint32_t)reg_merge(r, old, value);
	if ((old & CTRL_PHY_RST) && !(value & CTRL_PHY_RST))
		e1000_phy_reset(&e->phy);
	if (((old ^ value) & CTRL_SLU) || ((old & CTRL_PHY_RST) && !(value & CTRL_PHY_RST)))
		e1000_link_changed(e);
	else
		e1000_publish_status(e); /* forced speed or duplex */
	e1000_signal(&e->rx.kick);	 /* TFCE, VME */
}

/* Section 13.4.7: the PHY answers at once. */
static void write_mdic(struct e1000 *e, uint32_t value)
{
	unsigned reg = value >> MDIC_REG_SHIFT & 0x1f;
	uint32_t mdic = (value & MDIC_KEEPS) | MDIC_R;
	bool changed = false;

	if ((value >> MDIC_PHY_SHIFT & 0x1f) != PHY_ADDRESS) {
		mdic |= MDIC_E;
	} else if ((value & MDIC_OP) == MDIC_OP_READ) {
		mdic = (mdic & ~MDIC_DATA) | e1000_phy_read(&e->phy, reg);
	} else if ((value & MDIC_OP) == MDIC_OP_WRITE) {
		changed = e1000_phy_write(&e->phy, reg, (uint16_t)value);
	} else {
		mdic |= MDIC_E;
	}
	e->reg[E1000_MDIC / 4] = mdic;
	if (value & MDIC_I)
		e1000_irq_cause(e, ICR_MDAC);
	if (changed)
		e1000_link_changed(e);
	else
		e1000_publish_status(e);
	/* Loopback may have been switched. */
	e1000_signal(&e->tx.kick);
	e1000_signal(&e->rx.kick);
}

static void write_eecd(struct e1000 *e, uint32_t value)
{
	/* The pins are software's only while the EEPROM is granted to it. */
	if (value & EECD_REQ)
		e1000_eeprom_pins(&e->eeprom, value);
	else
		e1000_eeprom_pins(&e->eeprom, 0);
}

/* What a register does beside keeping its bits. */
static void written(struct e1000 *e, unsigned offset, uint32_t value)
{
	switch (offset) {
	case E1000_EECD:
		write_eecd(e, value);
		break;
	case E1000_EERD:
		e->reg[offset / 4] = e1000_eeprom_eerd(&e->eeprom, value);
		break;
	case E1000_CTRL_EXT:
		if (value & CTRL_EXT_EE_RST)
			e1000_load_eeprom(e);
		e->reg[offset / 4] &= ~(CTRL_EXT_EE_RST | CTRL_EXT_ASDCHK);
		break;
	case E1000_MDIC:
		write_mdic(e, value);
		break;
	case E1000_PBA:
		e->reg[offset / 4] = (value & PBA_RXA) | (PBA_TOTAL - (value & PBA_RXA)) % PBA_TOTAL
								 << 16;
		break;
	case E1000_RCTL:
		e1000_signal(&e->rx.kick);
		e1000_signal(&e->tx.kick); /* loopback needs no link */
		break;
	case E1000_TCTL:
		e1000_signal(&e->tx.kick);
		break;
	case E1000_TDH:
		e->tx.next = value & 0xffff;
		break;
	case E1000_RDTR:
		if (value & RDTR_FPD)
			e1000_irq_flush_rx(e);
		break;
	}
	/* RAH, every other word of the array, has fewer bits. */
	if (offset >= E1000_RA && offset < E1000_RA + 8 * E1000_RAS && offset & 4)
		e->reg[offset / 4] = value & RAH_WRITABLE;
}

static void write_locked(struct e1000 *e, unsigned offset, uint32_t value)
{
	const struct reg *r;

	if (offset >= E1000_CSR_SIZE) {
		e->reg[offset / 4] = value;
		return;
	}
	if (offset == E1000_CTRL || offset == E1000_CTRL_DUP) {
		write_ctrl(e, value);
		return;
	}
	r = row_of(e, offset);
	if (!r || !(r->access & REG_WRITE))
		return;
	e->reg[offset / 4] = (uint32_t)reg_merge(r, e1000_get(e, offset), value);
	written(e, offset, value);
}

static void write_register(struct e1000 *e, unsigned offset, uint32_t value)
{
	switch (offset) {
	case E1000_ICS:
	case E1000_IMS:
	case E1000_IMC:
	case E1000_ITR:
		e1000_irq_write(e, offset, value);
		return;
	case E1000_TDT:
		e1000_account(e, ACCOUNT_KICKS_EXIT, 1);
		trace_kick(e->dev.account);
		/* What came through eventfds before is older. */
		if (e->doorbells) {
			e1000_doorbells_drain(e);
			e1000_doorbells_want(e, value);
		}
		e1000_tx_tail(e, value & 0xffff);
		return;
	case E1000_RDT:
		e1000_rx_tail(e, value & 0xffff);
		return;
	}
	e1000_lock(e);
	write_locked(e, offset, value);
	e1000_unlock(e);
}

/* ---- the buses ------------------------------------------------------------------------------- */

static uint64_t read_any(struct e1000 *e, uint64_t offset, unsigned size)
{
	unsigned first = (unsigned)offset & 3;
	uint64_t value = read_register(e, (unsigned)offset & ~3u);

	if (first + size > 4 && offset + 4 < E1000_BAR_SIZE) {
		uint64_t high = read_register(e, ((unsigned)offset & ~3u) + 4);

		value |= high << 32;
	}
	return value >> 8 * first;
}

static void write_any(struct e1000 *e, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset & 3 || size < 4)
		return;
	write_register(e, (unsigned)offset, (uint32_t)value);
	if (size == 8)
		write_register(e, (unsigned)offset + 4, (uint32_t)(value >> 32));
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	return read_any(opaque, offset, size);
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	write_any(opaque, offset, size, value);
}

static const char *mmio_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	const struct reg *r = offset < E1000_CSR_SIZE ? row_of(opaque, (unsigned)offset) : NULL;

	(void)size;
	(void)write;
	return r ? r->name : NULL;
}

const struct bus_ops e1000_mmio_ops = {
	.read = mmio_read,
	.write = mmio_write,
	.name = mmio_name,
};

/* Section 13.3.1: IOADDR takes 32-bit writes only; addresses past the registers reach nothing. */
static uint64_t io_read(void *opaque, uint64_t offset, unsigned size)
{
	struct e1000 *e = opaque;
	uint32_t address = __atomic_load_n(&e->ioaddr, __ATOMIC_RELAXED);
	uint64_t value = 0;

	if (offset < E1000_IO_DATA) {
		value = address >> 8 * offset;
		if (offset + size > E1000_IO_DATA && address < E1000_BAR_SIZE)
			value |= read_any(e, address & ~3u, 4) << 8 * (E1000_IO_DATA - offset);
	} else if (address < E1000_BAR_SIZE) {
		value = read_any(e, address & ~3u, 4) >> 8 * (offset - E1000_IO_DATA);
	}
	return value;
}

static void io_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct e1000 *e = opaque;
	uint32_t address;

	if (size != 4)
		return;
	if (offset == E1000_IO_ADDR) {
		__atomic_store_n(&e->ioaddr, (uint32_t)value, __ATOMIC_RELAXED);
		return;
	}
	address = __atomic_load_n(&e->ioaddr, __ATOMIC_RELAXED);
	if (offset == E1000_IO_DATA && address < E1000_BAR_SIZE)
		write_any(e, address & ~3u, 4, value);
}

static const char *io_name(void *opaque, uint64_t offset, unsigned size, bool write)
{
	(void)opaque;
	(void)size;
	(void)write;
	return offset < E1000_IO_DATA ? "IOADDR" : "IODATA";
}

const struct bus_ops e1000_io_ops = { .read = io_read, .write = io_write, .name = io_name };
