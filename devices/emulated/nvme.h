/*
 * The NVMe controller's parts and what they share: NVM Express Base 1.4 with the PCIe transport.
 *
 *     nvme.c           row, PCI function, life cycle
 *     nvme_regs.c      controller registers: enabling, shutdown, doorbells
 *     nvme_queue.c     completion queues and interrupts
 *     nvme_serve.c     I/O submission queues: from a doorbell to requests, threads, holds
 *     nvme_io.c        I/O commands
 *     nvme_prp.c       from PRPs to iovecs
 *     nvme_admin.c     the admin queue: queues made and deleted, abort, doorbell buffers
 *     nvme_event.c     asynchronous events and the error log
 *     nvme_identify.c nvme_log.c nvme_features.c nvme_format.c
 *
 * Threads. Registers and the admin queue are served by the vCPU that touches them, under n->lock.
 * Each I/O submission queue is served under its own lock: with doorbell=exit by the vCPU that
 * rings, with doorbell=ioeventfd by the queue's event loop; what completes later comes on that loop
 * either way. Nobody waits for another thread's loop.
 *
 * Accounting is about the I/O queues: their doorbells, commands, bytes. What the admin queue does
 * shows as register accesses and interrupts.
 *
 * Lock order: n->lock, an SQ's lock, then leaves: a CQ's lock, n->errors_lock, those of PCI and
 * interrupts. What runs with an SQ's lock held never takes n->lock.
 */
#ifndef DEVICES_EMULATED_NVME_H
#define DEVICES_EMULATED_NVME_H

#include <pthread.h>

#include "devices/backend/block.h"
#include "devices/device.h"
#include "devices/emulated/nvme_spec.h"
#include "devices/pci/pci.h"
#include "vmm/account.h"
#include "vmm/event.h"
#include "vmm/log.h"

#define NVME_MAX_QUEUES	   16u	 /* pairs, without the admin queues */
#define NVME_QUEUE_ENTRIES 1024u /* CAP.MQES + 1 */
#define NVME_ADMIN_ENTRIES 4096u
#define NVME_DEPTH	   256u /* requests of one queue that are with the backend at once */
#define NVME_PAGE	   4096u
#define NVME_MDTS	   7u /* log2 of pages: 512 KiB */
#define NVME_MAX_TRANSFER  (NVME_PAGE << NVME_MDTS)
#define NVME_MAX_IOV	   (NVME_MAX_TRANSFER / NVME_PAGE + 1)
#define NVME_AERS	   4u
#define NVME_ERRORS	   64u
#define NVME_KELVIN	   313u /* the temperature that it pretends to have: 40 °C */

#define NVME_BAR	0u
#define NVME_DOORBELLS	0x1000u
#define NVME_MSIX_TABLE 0x2000u
#define NVME_MSIX_PBA	0x3000u
#define NVME_BAR_SIZE	0x4000u

/* A command function's answer when it will complete by itself, later. */
#define NVME_LATER 0xffffu

struct nvme;
struct nvme_sq;

struct nvme_cq {
	struct nvme *n;
	uint16_t id;
	pthread_mutex_t lock; /* a leaf: guards the rest */
	bool live;
	uint32_t size, head, tail;
	bool phase;
	uint32_t reserved; /* entries promised to commands that are being executed */
	bool starved;	   /* a submission queue waits for room */
	bool ien;
	uint16_t vector;
	bool posted;		       /* entries that no interrupt has told of yet */
	bool asserted;		       /* atomic: wants the pin */
	struct nvme_completion *entry; /* in guest memory */
	uint32_t *shadow_head, *event; /* in guest memory; NULL: no doorbell buffers */
};

/* An I/O command that is being executed. */
struct nvme_request {
	struct block_request block; /* first */
	struct nvme_sq *sq;
	struct nvme_request *next; /* free */
	uint64_t taken;		   /* account_begin()'s stamp */
	uint16_t cid;
	uint32_t nsid;
	uint64_t slba;
	uint16_t range, ranges; /* DSM: the next one, and how many */
	uint64_t rest, at;	/* DSM: what is left of the current range, in bytes */
	struct iovec iov[NVME_MAX_IOV];
};

#define NVME_HOLD_PAUSE	 (1u << 0) /* the machine is paused */
#define NVME_HOLD_DMA	 (1u << 1) /* bus mastering is off */
#define NVME_HOLD_FORMAT (1u << 2) /* commands are answered, but not executed */

struct nvme_counts {
	uint64_t reads, writes, bytes_read, bytes_written, media_errors;
};

struct nvme_sq {
	struct nvme *n;
	uint16_t id;
	uint32_t doorbell;	  /* atomic: what the register was last written with */
	struct event_loop *loop;  /* its own; NULL: the main one */
	struct event_source kick; /* fd: an eventfd */
	struct block_queue *backend;

	pthread_mutex_t lock; /* guards the rest; the backend queue's lock too */
	bool live;	      /* atomic */
	bool stopping;	      /* what is long ends early, as aborted */
	unsigned held;	      /* NVME_HOLD_…: likewise, as done */
	uint32_t size, head, tail;
	const struct nvme_command *entry; /* in guest memory */
	struct nvme_cq *cq;
	uint32_t *shadow_tail, *event; /* in guest memory; NULL: no doorbell buffers */
	bool bound;		       /* the doorbell signals kick.fd; n->lock */
	bool serving;
	bool throttled; /* stopped for want of a request */
	unsigned in_flight;
	struct nvme_request *pool, *free;
	struct nvme_counts counts; /* since power on */
};

/* Format NVM in the background, n->lock. */
struct nvme_format {
	struct block_request block; /* first */
	struct nvme *n;
	bool busy, stop;
	bool waiting; /* between two pieces, until the machine goes on */
	uint16_t cid;
	uint64_t at;
};

struct nvme {
	struct device dev; /* first */
	struct pci_function f;
	unsigned express; /* offset of its PCI Express capability */
	struct block *block;
	char serial[21];
	unsigned nqueues;      /* I/O queue pairs */
	bool inline_doorbells; /* doorbell=exit */
	bool offers_shadow;    /* Doorbell Buffer Config */
	uint64_t blocks;       /* of the namespace */
	unsigned block_shift;
	bool write_through; /* atomic: Volatile Write Cache feature, inverted */

	pthread_mutex_t lock; /* guards registers, the admin queue and all of the following */
	uint32_t cc, csts, aqa, intms;
	uint64_t asq, acq;
	unsigned held;
	uint32_t feature[NVME_FEATURES];
	uint32_t threshold[2];			     /* temperature: over, under */
	uint16_t vector_config[NVME_MAX_QUEUES + 1]; /* Interrupt Vector Configuration, CD */
	uint64_t shadow, events_at;		     /* doorbell buffers; 0: none */
	struct block_queue *backend;		     /* for the admin queue, on the main loop */
	struct nvme_format format;
	struct block_request shutdown; /* its flush */
	bool flushing;
	uint32_t admin_head, admin_tail, admin_size;
	const struct nvme_command *admin_entry;
	uint32_t *admin_event; /* its place in the EventIdx buffer, or NULL */
	uint16_t aer_cid[NVME_AERS];
	unsigned naer;
	struct {
		bool pending, masked;
		uint8_t info;
	} event[NVME_EVENT_TYPES];

	struct nvme_sq sq[NVME_MAX_QUEUES + 1]; /* [0] is not used */
	struct nvme_cq cq[NVME_MAX_QUEUES + 1];

	uint32_t raised;	       /* atomic: doorbell events, bit NVME_EVENT_INVALID_… */
	struct event_source attention; /* fd: an eventfd; looks at raised, on the main loop */
	struct log_limit misuse;

	pthread_mutex_t pin_lock;    /* a leaf: keeps the pin's changes in order */
	pthread_mutex_t errors_lock; /* a leaf: guards the rest */
	struct nvme_error_entry error[NVME_ERRORS];
	uint64_t nerrors;
};

/* ---- nvme_regs.c ---- */

extern const struct bus_ops nvme_bar_ops;
extern const struct reg_table nvme_registers;
/* As CC.EN = 0: waits for what is in flight, forgets queues and events. n->lock held. */
void nvme_disable(struct nvme *n);
/* Controller registers as after power on; disabled before. n->lock held. */
void nvme_regs_reset(struct nvme *n);
/* The controller cannot go on: CSTS.CFS. n->lock held. */
void nvme_fatal(struct nvme *n, const char *why);

/* ---- nvme_queue.c ---- */

/* n->lock held. entry is in guest memory, size entries long. */
void nvme_cq_start(struct nvme_cq *cq, struct nvme_completion *entry, uint32_t size, bool ien,
		   uint16_t vector);
void nvme_cq_stop(struct nvme_cq *cq);
void nvme_cq_shadow(struct nvme_cq *cq, uint32_t *head, uint32_t *event);
/* Room for one more completion? It is kept until posted or released. */
bool nvme_cq_reserve(struct nvme_cq *cq);
void nvme_cq_release(struct nvme_cq *cq);
/* Uses a reserved entry. status as in nvme_spec.h. */
void nvme_cq_post(struct nvme_cq *cq, uint16_t sqid, uint32_t sqhd, uint16_t cid, uint16_t status,
		  uint32_t result);
/* An interrupt for all that was posted; wakes who waits for room if the driver has made some. */
void nvme_cq_notify(struct nvme_cq *cq);
/* The driver wrote its head; false if that cannot be. *wake: somebody waits for room. */
bool nvme_cq_set_head(struct nvme_cq *cq, uint32_t value, bool *wake);
/* The pin's level after INTMS or a queue has changed. No CQ lock held. */
void nvme_pin_update(struct nvme *n);

/* ---- nvme_serve.c ---- */

int nvme_sq_init(struct nvme *n, unsigned id, bool iothread, struct error *e);
void nvme_sq_destroy(struct nvme_sq *sq);
/* n->lock held. -ENOMEM. */
int nvme_sq_start(struct nvme_sq *sq, const struct nvme_command *entry, uint32_t size,
		  struct nvme_cq *cq);
void nvme_sq_stop(struct nvme_sq *sq); /* returns when nothing is in flight */
void nvme_sq_shadow(struct nvme_sq *sq, uint32_t *tail, uint32_t *event);
/* Adds or removes reasons not to execute; waits for what is in flight. n->lock held. */
void nvme_hold(struct nvme *n, unsigned reason, bool hold);
void nvme_sq_ring(struct nvme_sq *sq, uint32_t value); /* the doorbell register was written */
void nvme_sq_wake(struct nvme_sq *sq);		       /* its loop shall look at it */
void nvme_sq_wake_all(struct nvme *n);
/* With sq->lock held. */
void nvme_sq_complete(struct nvme_sq *sq, uint16_t cid, uint16_t status);
struct nvme_counts nvme_counts(struct nvme *n);

/* ---- nvme_io.c; sq->lock held ---- */

/* Starts a command, or completes it at once; there is a free request. */
void nvme_io_start(struct nvme_sq *sq, const struct nvme_command *c);
/* What a backend's result means to the driver. */
uint16_t nvme_block_status(enum block_op op, int result);

/* ---- nvme_prp.c ---- */

/*
 * The data pointer of a command as host iovecs: a status, 0 for success. Neighbours are joined; max
 * must be enough for every page of it.
 */
uint16_t nvme_prp_iov(const struct guest_memory *memory, uint64_t prp1, uint64_t prp2, uint32_t len,
		      struct iovec *iov, int max, int *niov);
/* Copies have bytes to it and zeroes up to len, which is at most NVME_MAX_TRANSFER. */
uint16_t nvme_prp_write(const struct nvme *n, const struct nvme_command *c, const void *data,
			uint32_t have, uint32_t len);

/* ---- nvme_admin.c and its commands; n->lock held ---- */

int nvme_admin_start(struct nvme *n); /* from AQA, ASQ, ACQ: 0, -EFAULT or -EINVAL */
void nvme_admin_stop(struct nvme *n);
void nvme_admin_ring(struct nvme *n, uint32_t value);
void nvme_admin_serve(struct nvme *n);
void nvme_admin_complete(struct nvme *n, uint16_t cid, uint16_t status, uint32_t result);
void nvme_bind_doorbell(struct nvme_sq *sq, bool bind);

uint16_t nvme_identify(struct nvme *n, const struct nvme_command *c);
uint16_t nvme_get_log(struct nvme *n, const struct nvme_command *c);
uint16_t nvme_set_features(struct nvme *n, const struct nvme_command *c, uint32_t *result);
uint16_t nvme_get_features(struct nvme *n, const struct nvme_command *c, uint32_t *result);
void nvme_features_reset(struct nvme *n);
bool nvme_too_hot(const struct nvme *n); /* or too cold, by the driver's thresholds */
uint16_t nvme_format(struct nvme *n, const struct nvme_command *c);
void nvme_format_go_on(struct nvme *n); /* after a pause */

/* ---- nvme_event.c ---- */

uint16_t nvme_async_event(struct nvme *n, uint16_t cid); /* the command; n->lock held */
bool nvme_abort_event(struct nvme *n, uint16_t cid);	 /* likewise */
void nvme_event_raise(struct nvme *n, enum nvme_event_type type, uint8_t info); /* likewise */
void nvme_event_read(struct nvme *n, enum nvme_event_type type); /* its log was; likewise */
void nvme_events_deliver(struct nvme *n);			 /* likewise */
void nvme_events_reset(struct nvme *n);				 /* likewise */
/* A doorbell was misused; any thread, any lock. */
void nvme_bad_doorbell(struct nvme *n, unsigned what);
int nvme_events_init(struct nvme *n, struct error *e);
void nvme_events_destroy(struct nvme *n);
/* Writes it down; returns the status with the flag that says so. Leaf lock only. */
uint16_t nvme_error_note(struct nvme *n, uint16_t sqid, uint16_t cid, uint16_t status,
			 uint32_t nsid, uint64_t lba);

/* ---- nvme.c ---- */

/* Takes block over, also on failure. */
int nvme_create(struct device_host *host, const struct device_config *config, struct block *block,
		struct device **out, struct error *e);

#endif
