/*
 * The IDE controller and its disks: the IDE function of Intel's 82801DB (ICH4), with ATA-7 disks as
 * master and slave of two channels. It is of the PIIX line (the same bus master and timing
 * registers), and the first that has native mode beside compatibility mode. This machine needs
 * that: its ACPI is hardware-reduced, where an OS knows no ISA lines, so lines 14 and 15 reach
 * nobody. Out of reset both channels are in native mode; a guest may switch them.
 *
 *     ide.c           row, the controller that flags share, PCI function, life cycle
 *     ide_regs.c      command and control block registers, device selection, INTRQ
 *     ide_bm.c        bus-master registers and the walk over physical region descriptors
 *     ide_command.c   commands: the table, and those without data
 *     ide_transfer.c  data: by the data port, by DMA, to and from the block backend
 *     ide_identify.c  IDENTIFY DEVICE; ide_smart.c  SMART; ide_trim.c  DATA SET MANAGEMENT
 *
 * Threads. A channel is guarded by its lock, which is the block queues' lock too. Registers are
 * touched by vCPUs; what the backend has not done by then completes on the drive's event loop. A
 * channel has one command at a time, as on the cable.
 *
 * Accounting: a disk's are its commands, the accesses to registers while it is the selected one
 * (the bus master's too) and the interrupts it raises. The Command register is the doorbell.
 *
 * Lock order: a channel's lock, then leaves (PCI, interrupts, backend).
 */
#ifndef DEVICES_EMULATED_IDE_H
#define DEVICES_EMULATED_IDE_H

#include <pthread.h>

#include "devices/backend/block.h"
#include "devices/device.h"
#include "devices/emulated/ide_spec.h"
#include "devices/pci/pci.h"
#include "devices/registers.h"
#include "vmm/account.h"
#include "vmm/event.h"
#include "vmm/irq.h"

#define IDE_CHANNELS	2u
#define IDE_DRIVES	2u /* of a channel */
#define IDE_BUFFER	(128u * BLOCK_SECTOR)
#define IDE_MULTIPLE	16u /* most sectors of a DRQ block */
#define IDE_IOV		257u
#define IDE_PIECE	(512u << 10) /* of a DMA transfer, for one request to the backend */
#define IDE_TRIM_BLOCKS 8u

#define IDE_BM_BAR  4u
#define IDE_BM_SIZE 16u

/* Configuration space. */
#define IDE_PROGIF   0x09u /* bits 0 and 2: the channels are in native mode */
#define IDE_IDETIM   0x40u /* and 0x42: timings of a channel; bit 15: decode it */
#define IDE_SIDETIM  0x44u
#define IDE_SDMA_CNT 0x48u
#define IDE_SDMA_TIM 0x4au
#define IDE_CONFIG   0x54u /* bits 4 to 7: the cables are good for Ultra DMA 4 and 5 */

struct ide;
struct ide_channel;
struct ide_drive;

/* The command block, as a driver writes it. [0]: as written last, [1]: before (HOB). */
struct ide_file {
	uint8_t feature[2], count[2], lba[3][2];
	uint8_t device;
};

enum ide_phase {
	IDE_IDLE,
	IDE_BUSY,    /* the backend has it */
	IDE_PIO_IN,  /* DRQ: the driver reads the data port */
	IDE_PIO_OUT, /* DRQ: the driver writes it */
	IDE_DMA,     /* waits for the bus master, or is with it */
};

struct ide_command;

struct ide_drive {
	struct ide_channel *ch;
	unsigned unit;
	struct block *block; /* NULL: nobody is there */
	struct block_queue *backend;
	struct event_loop *loop; /* its own; NULL: the main one */
	struct account *account; /* the disk's; once set it stays */
	char serial[21];
	uint64_t sectors;

	struct ide_file file;
	uint8_t status, error;
	bool irq; /* interrupt pending */

	/* Settings. */
	unsigned heads, track; /* CHS translation */
	unsigned multiple;     /* sectors of a DRQ block; 0: not set */
	bool write_cache, look_ahead, smart;
	uint8_t mwdma, udma; /* mode + 1; 0: none selected */
	uint8_t power;	     /* ATA_POWER_… */
	bool asleep;

	/* The command being executed. */
	const struct ide_command *command;
	uint64_t taken; /* account_begin()'s stamp; 0: none is being executed */
	enum ide_phase phase;
	uint64_t at;	      /* sector */
	uint32_t left;	      /* sectors that the backend has not had */
	unsigned block_size;  /* bytes of a DRQ block */
	unsigned pos, end;    /* of the DRQ block in the buffer */
	unsigned filled;      /* valid bytes in the buffer */
	unsigned trim, trims; /* entry in the buffer, and how many */
	struct block_request request;
	bool in_flight; /* the request */
	bool abort;	/* what completes goes nowhere */
	struct iovec iov[IDE_IOV];
	uint8_t buffer[IDE_BUFFER] __attribute__((aligned(16)));
};

/* A channel's half of the bus master. */
struct ide_bm {
	uint8_t command, status;
	uint32_t table;
	/* The walk, from start to stop. */
	bool started;
	uint64_t next; /* address of the descriptor that follows */
	uint64_t base; /* what is left of the current one */
	uint32_t left;
	bool last; /* the current one is the last */
	unsigned seen;
};

struct ide_channel {
	struct ide *ide;
	unsigned index;
	pthread_mutex_t lock; /* guards all below and both drives */
	uint8_t control;      /* Device Control */
	unsigned selected;    /* atomic for accounting's sake */
	bool held;	      /* the machine is paused, or the bus may not be mastered */
	bool level;	      /* INTRQ; atomic for the other channel's sake */
	struct irq_line line; /* in compatibility mode */
	struct ide_bm bm;
	struct ide_drive drive[IDE_DRIVES];
};

/* Made by the first disk, gone with the last. */
struct ide {
	struct device dev; /* the function's owner; never in the machine's list */
	struct pci_function f;
	unsigned disks; /* how many there are */
	bool paused;
	pthread_mutex_t pin_lock; /* a leaf: keeps INTA#'s changes in order */
	struct ide_channel channel[IDE_CHANNELS];
};

/* ---- ide_regs.c ---- */

/* opaque: the channel; compat: the fixed ports */
extern const struct bus_ops ide_block_ops, ide_control_ops, ide_compat_block_ops,
	ide_compat_control_ops;
extern const struct reg_table ide_registers;
/* Whose register accesses are now. Any thread, no lock needed. */
struct account *ide_channel_account(const struct ide_channel *ch);
void ide_channel_reset(struct ide_channel *ch);		/* power on; lock held */
void ide_select(struct ide_channel *ch, unsigned unit); /* lock held */
void ide_interrupt(struct ide_drive *d);		/* lock held */
void ide_update_line(struct ide_channel *ch);		/* its mode has changed; lock held */
void ide_signature(struct ide_drive *d);		/* lock held */

/* ---- ide_bm.c ---- */

extern const struct bus_ops ide_bm_ops; /* opaque: the controller */
extern const struct reg_table ide_bm_registers;
void ide_bm_reset(struct ide_channel *ch);
/*
 * The next sectors' worth of guest memory, at most max bytes, in iov; fewer, down to 0, where the
 * descriptors end or cannot be, which the status register then says. *n: iovecs.
 */
uint32_t ide_bm_take(struct ide_channel *ch, uint32_t max, struct iovec *iov, unsigned room,
		     unsigned *n);
/* The drive has moved its last byte. */
void ide_bm_finished(struct ide_channel *ch);
/* May bytes move now, in this direction? */
bool ide_bm_ready(const struct ide_channel *ch, bool in);

/* ---- ide_command.c, lock held ---- */

enum ide_kind { IDE_NONE, IDE_IN, IDE_OUT, IDE_VERIFY };

struct ide_command {
	enum ide_kind kind; /* of disk data */
	bool dma, ext, multiple, fua;
	void (*run)(struct ide_drive *d); /* for all others */
};

void ide_execute(struct ide_drive *d, uint8_t opcode);
void ide_ended(struct ide_drive *d); /* the command has, for accounting */
void ide_done(struct ide_drive *d);  /* with an interrupt */
void ide_fail(struct ide_drive *d, uint8_t error, uint8_t status); /* likewise */
void ide_abort_command(struct ide_drive *d);
void ide_diagnostic(struct ide_channel *ch);

/* ---- ide_transfer.c, lock held ---- */

void ide_transfer(struct ide_drive *d); /* what d->command says */
void ide_flush(struct ide_drive *d);
/* len bytes of the buffer, which is filled, are for the driver to read. */
void ide_give(struct ide_drive *d, unsigned len);
uint32_t ide_data_read(struct ide_drive *d, unsigned size);
void ide_data_write(struct ide_drive *d, unsigned size, uint32_t value);
void ide_dma_continue(struct ide_channel *ch); /* the bus master was started, or goes on */
/* Waits for the backend and forgets the command. */
void ide_cancel(struct ide_drive *d);
/* Waits for the backend; a DMA transfer stays where it is. */
void ide_settle(struct ide_channel *ch);

/* ---- others, lock held ---- */

void ide_identify(struct ide_drive *d);
void ide_smart(struct ide_drive *d);
void ide_trim(struct ide_drive *d);	  /* the command */
void ide_trim_start(struct ide_drive *d); /* its data are in the buffer */

/* ---- ide.c ---- */

/* The machine's controller, or NULL. */
struct ide *ide_find(struct device_host *host);
/* Takes block over, also on failure. */
int ide_create(struct device_host *host, const struct device_config *config, struct block *block,
	       struct device **out, struct error *e);

#endif
