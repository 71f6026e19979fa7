/*
 * A virtio device without its transport: status, features, configuration space and queue registers
 * (Virtio 1.2 chapter 2), and the serving of its queues. A transport (pci.c, mmio.c) turns register
 * accesses into the calls below; a device (blk.c, rng.c) gives the operations.
 *
 * Threads. Registers are guarded by v->lock and used on vCPU threads. A queue is served on the
 * event loop it was given (an I/O thread, or the main thread), with q->lock held; who starts, stops
 * or holds it takes the same lock, so when that returns nothing is in the middle of anything. No
 * thread waits for another one's event loop here: the main loop waits for vCPUs when the machine
 * pauses, so a vCPU that waited for the main loop would be the end of both.
 *
 * Lock order: v->lock, q->lock, then leaf locks (transport, interrupts, config_lock, backend). What
 * runs with q->lock held never takes v->lock.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <pthread.h>

#include "devices/device.h"
#include "devices/virtio/queue.h"
#include "vmm/event.h"
#include "vmm/event_fd.h"
#include "vmm/log.h"

#define VIRTIO_MAX_QUEUES 64
#define VIRTIO_CONFIG_MAX 256 /* bytes of device configuration space */

#define VIRTIO_BIT(n) (1ull << (n))

struct chain_fifo;
struct virtio_device;
struct virtio_queue;

struct virtio_transport_ops {
	/* The driver wants to hear of used buffers of q; q->lock held. */
	void (*queue_interrupt)(struct virtio_device *v, struct virtio_queue *q);
	/*
	 * The eventfd whose signal does the same without us, for data planes elsewhere; -errno if
	 * there is none now. v->lock held; virtio_update() follows when the answer changes.
	 */
	int (*queue_eventfd)(struct virtio_device *v, struct virtio_queue *q);
	/* Configuration or NEEDS_RESET has changed. Any thread. */
	void (*config_interrupt)(struct virtio_device *v);
	/* The driver has reset the device: interrupts go quiet, vectors are unset. v->lock held. */
	void (*device_reset)(struct virtio_device *v);
	/* The machine is reset. Main thread, no vCPU runs. */
	void (*machine_reset)(struct virtio_device *v);
	void (*destroy)(struct virtio_device *v);
};

struct virtio_device_ops {
	/*
	 * Requests, q->lock held. Each chain is given back by virtio_queue_push(), here or later;
	 * what is pushed later is shown by virtio_queue_publish().
	 */
	void (*process)(struct virtio_queue *q, struct virtq_chain **chains, unsigned n);
	/* Chains in one turn of the loop, for a device to which one can be long work; 0: many. */
	unsigned turn;
	/*
	 * For a queue that the device takes from by itself (receive buffers): called in place of
	 * process() when there may be chains (a kick, start, the end of a hold), q->lock held; it
	 * uses virtq_pop(), virtq_enable_kicks() and virtio_queue_break() as it needs. False: not
	 * such a queue. May be NULL.
	 */
	bool (*pull)(struct virtio_queue *q);
	/* Nothing is left to process until the next kick; q->lock held. May be NULL. */
	void (*idle)(struct virtio_queue *q);
	/*
	 * Waits until no chain is out, q->lock held; afterwards nothing of the device touches guest
	 * memory until process() is called again. NULL if process() gives all back itself.
	 */
	void (*drain)(struct virtio_queue *q);
	/* May these features be used together? A reason why not, or NULL. v->lock held. Or NULL. */
	const char *(*check_features)(struct virtio_device *v, uint64_t features);
	/* v->features is final, queues start next. v->lock held. May be NULL. */
	void (*driver_ok)(struct virtio_device *v);
	/* A write inside configuration space, 1, 2, 4 or 8 bytes. v->lock held. NULL: read-only. */
	void (*config_write)(struct virtio_device *v, unsigned offset, unsigned size,
			     uint64_t value);
	/*
	 * For data planes elsewhere (vhost): queues were started, stopped or held, or their
	 * interrupts go another way now. When this returns, nobody touches a queue that is
	 * not virtio_queue_due() any more. v->lock held. May be NULL.
	 */
	void (*update)(struct virtio_device *v);
	/* After all queues have stopped. v->lock held. May be NULL. */
	void (*reset)(struct virtio_device *v);
	/* The queues go next: no timer, socket or backend may use them after this. Or NULL. */
	void (*detach)(struct virtio_device *v);
	/* Frees the device; transport and queues are gone already. */
	void (*destroy)(struct virtio_device *v);
};

/* Plain counters under q->lock. */
struct virtio_queue_stats {
	uint64_t kicks;	     /* times the loop was woken by a doorbell */
	uint64_t requests;   /* chains taken */
	uint64_t bytes;	     /* read from and written to chains */
	uint64_t interrupts; /* sent */
	uint64_t suppressed; /* not wanted by the driver */
	uint64_t broken;     /* violations */
};

/* Why a queue is not served although the driver has started it. */
#define VIRTIO_HOLD_PAUSE (1u << 0) /* the machine is paused */
#define VIRTIO_HOLD_DMA	  (1u << 1) /* the transport may not access memory (bus master off) */
#define VIRTIO_HOLD_MOVE  (1u << 2) /* it goes from one data plane to another */
#define VIRTIO_HOLD_OFF	  (1u << 3) /* vhost-user: the front end has disabled the ring */

struct virtio_queue {
	struct virtio_device *v;
	unsigned index;
	uint16_t max_size;

	/* Registers, guarded by v->lock. */
	struct virtq_config regs; /* features are filled in on start */
	bool enabled;		  /* and so frozen */
	bool reconfigurable;	  /* was reset by itself: may be set up after DRIVER_OK */
	uint16_t vector;	  /* atomic: read while serving */

	struct event_loop *loop;
	struct event_source kick; /* fd: an eventfd, signalled by the doorbell */
	/* Another process has its eventfd too, and so it is signalled by this. NULL: nobody has. */
	struct event_signaller *kick_peer;

	pthread_mutex_t lock; /* guards all below */
	struct virtq ring;
	struct virtq_state state; /* where the next start begins */
	bool running;
	bool outside;  /* a data plane elsewhere serves it, not serve.c */
	bool serving;  /* inside a turn of the loop */
	unsigned held; /* VIRTIO_HOLD_… */
	struct virtio_queue_stats stats;
	struct log_limit broken;
};

struct virtio_device {
	struct device dev; /* first */
	const struct virtio_device_ops *ops;
	const struct virtio_transport_ops *transport_ops;
	void *transport;
	uint16_t id; /* VIRTIO_ID_… */

	/*
	 * Guards registers. Taken by transports on vCPU threads around one access.
	 */
	pthread_mutex_t lock;
	uint64_t offered;
	uint64_t driver_features; /* as written, not yet agreed to */
	uint64_t features;	  /* negotiated, 0 before FEATURES_OK */
	uint32_t device_feature_select, driver_feature_select, queue_select;
	unsigned held; /* VIRTIO_HOLD_… as the queues have it */
	unsigned nqueues;
	struct virtio_queue *queue;

	uint8_t status;	    /* atomic: serving sets NEEDS_RESET */
	uint8_t generation; /* atomic */

	/* A leaf lock: guards config. */
	pthread_mutex_t config_lock;
	uint8_t config[VIRTIO_CONFIG_MAX];
	unsigned config_len;

	/* For eventfds that another process has too; made by who gives it some, or takes some. */
	struct event_signaller peer;

	struct log_limit misuse; /* the driver breaks a rule of initialisation or access */
};

/* ---- for devices ---- */

struct virtio_identity {
	uint16_t id;
	uint64_t features; /* of the device type; ring features come from the keys */
	unsigned nqueues;
	unsigned config_len;
};

/* Keys of the queues; defaults as text. */
#define VIRTIO_RING_KEYS(ring_default, queue_size_default)                                         \
	{ .name = "ring",                                                                          \
	  .type = KEY_ENUM,                                                                        \
	  .fallback = ring_default,                                                                \
	  .choices = "split|packed",                                                               \
	  .help = "format of the virtqueues offered to the guest" },                               \
		{ .name = "queue-size",                                                            \
		  .type = KEY_UINT,                                                                \
		  .fallback = queue_size_default,                                                  \
		  .min = 2,                                                                        \
		  .max = VIRTQ_MAX_SIZE,                                                           \
		  .help = "descriptors in a queue; a power of two for ring=split" },               \
		{ .name = "event-idx",                                                             \
		  .type = KEY_BOOL,                                                                \
		  .fallback = "on",                                                                \
		  .help = "offer EVENT_IDX: fewer kicks and interrupts" },                         \
		{ .name = "indirect",                                                              \
		  .type = KEY_BOOL,                                                                \
		  .fallback = "on",                                                                \
		  .help = "offer indirect descriptors: longer requests in one slot" },             \
	{                                                                                          \
		.name = "in-order", .type = KEY_BOOL, .fallback = "off",                           \
		.help = "offer IN_ORDER: requests complete in the order they came"                 \
	}

/* Keys every virtio row has; queue_size is the default as text. */
#define VIRTIO_KEYS(queue_size_default)                                                            \
	{ .name = "transport",                                                                     \
	  .type = KEY_ENUM,                                                                        \
	  .fallback = "pci",                                                                       \
	  .choices = "pci|mmio",                                                                   \
	  .help = "how the guest finds it: a PCI function, or registers that ACPI names" },        \
		VIRTIO_RING_KEYS("split", queue_size_default)

/*
 * Sets up v (zeroed memory, embedded first in the device). Undone by virtio_device_fini(), also
 * after failure. device_config is that of a row with VIRTIO_KEYS.
 */
int virtio_device_init(struct virtio_device *v, const struct virtio_device_ops *ops,
		       const struct virtio_identity *identity, struct device_host *host,
		       const struct device_config *config, struct error *e);
/* Gives queue `index` its loop, size and private bytes per chain; once for each. */
int virtio_queue_init(struct virtio_device *v, unsigned index, uint16_t max_size,
		      size_t private_size, struct event_loop *loop, struct error *e);
/* Makes the device visible to the guest, by the transport its flag names; all else is set up. */
int virtio_transport_create(struct virtio_device *v, const struct device_config *config,
			    struct error *e);
/* Resets, takes the transport and queues away; what is left is the device's own memory. */
void virtio_device_fini(struct virtio_device *v);

/* With q->lock held. */
void virtio_queue_push(struct virtio_queue *q, struct virtq_chain *chain, uint32_t written);
/*
 * Of process(): buffers for what is yet to come go into the fifo, and how long they wait there is
 * no latency. One that is smaller than `least` bytes breaks the queue: false.
 */
bool virtio_queue_stock(struct virtio_queue *q, struct virtq_chain **chains, unsigned n,
			struct chain_fifo *fifo, size_t least);
void virtio_queue_publish(struct virtio_queue *q);
/* Has the queue looked at again by its loop; no lock needed. */
void virtio_queue_kick(struct virtio_queue *q);
/* The driver broke a rule of the device type: the queue stops, the driver is told to reset. */
void virtio_queue_break(struct virtio_queue *q, const char *why);

/* Stores into configuration space, unseen: set-up, reset, and what the driver itself wrote. */
void virtio_config_set(struct virtio_device *v, unsigned offset, const void *buf, size_t len);
/* Changes configuration space and tells the driver. Any thread. */
void virtio_config_update(struct virtio_device *v, unsigned offset, const void *buf, size_t len);

static inline bool virtio_has(const struct virtio_device *v, unsigned feature)
{
	return v->features & VIRTIO_BIT(feature);
}

/* ---- for transports, all with v->lock held unless they say otherwise ---- */

uint8_t virtio_get_status(const struct virtio_device *v); /* no lock needed */
void virtio_set_status(struct virtio_device *v, uint8_t value);
uint32_t virtio_get_offered(const struct virtio_device *v, uint32_t select);
uint32_t virtio_get_driver_features(const struct virtio_device *v, uint32_t select);
void virtio_set_driver_features(struct virtio_device *v, uint32_t select, uint32_t value);
uint8_t virtio_get_generation(const struct virtio_device *v); /* no lock needed */
uint64_t virtio_config_read(struct virtio_device *v, uint64_t offset, unsigned size);
void virtio_config_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value);

/* NULL for a queue that does not exist. */
struct virtio_queue *virtio_queue_at(struct virtio_device *v, unsigned index);
void virtio_queue_set_size(struct virtio_queue *q, uint32_t size);
enum virtio_ring_area { VIRTIO_AREA_DESC, VIRTIO_AREA_DRIVER, VIRTIO_AREA_DEVICE };
/* Half 0 or 1 of the 64-bit address. */
void virtio_queue_set_address(struct virtio_queue *q, enum virtio_ring_area area, unsigned half,
			      uint32_t value);
uint32_t virtio_queue_get_address(const struct virtio_queue *q, enum virtio_ring_area area,
				  unsigned half);
void virtio_queue_enable(struct virtio_queue *q);
/* Stops it; its registers stay, frozen as before. For transports that can (MMIO). */
void virtio_queue_disable(struct virtio_queue *q);
void virtio_queue_reset(struct virtio_queue *q); /* VIRTIO_F_RING_RESET */
/* A doorbell that came as an exit; no lock needed. */
void virtio_queue_doorbell(struct virtio_queue *q);
/* Adds or removes a reason not to serve queues; returns when no DMA goes on any more. */
void virtio_hold(struct virtio_device *v, unsigned reason, bool hold);
/* The driver did what it must not: logged once per device, otherwise ignored. */
void virtio_misuse(struct virtio_device *v, const char *what);

/*
 * Registers that all transports have. They are the first indexes of a transport's table, and its
 * own follow from VIRTIO_REG_COUNT on.
 */
enum virtio_reg {
	VIRTIO_REG_DEVICE_FEATURE_SELECT,
	VIRTIO_REG_DEVICE_FEATURE,
	VIRTIO_REG_DRIVER_FEATURE_SELECT,
	VIRTIO_REG_DRIVER_FEATURE,
	VIRTIO_REG_DEVICE_STATUS,
	VIRTIO_REG_CONFIG_GENERATION,
	VIRTIO_REG_QUEUE_SELECT,
	VIRTIO_REG_QUEUE_SIZE,
	VIRTIO_REG_QUEUE_ENABLE,
	VIRTIO_REG_QUEUE_RESET,
	VIRTIO_REG_QUEUE_DESC,
	VIRTIO_REG_QUEUE_DRIVER,
	VIRTIO_REG_QUEUE_DEVICE,
	VIRTIO_REG_COUNT
};

/* Access is checked before; half 1 is the upper one of a 64-bit register. */
uint32_t virtio_reg_read(struct virtio_device *v, int reg, unsigned half);
void virtio_reg_write(struct virtio_device *v, int reg, unsigned half, uint32_t value);

/* NULL if the driver has selected one that does not exist. */
static inline struct virtio_queue *virtio_selected_queue(struct virtio_device *v)
{
	return virtio_queue_at(v, v->queue_select);
}

/* Queues were started or stopped, or an answer of queue_eventfd() has changed. v->lock held. */
static inline void virtio_update(struct virtio_device *v)
{
	if (v->ops->update)
		v->ops->update(v);
}

/*
 * ---- for vhost-user's server: another VMM has played the transport, and this is what it and the
 * driver agreed on. The device is as after DRIVER_OK; its queues are started and stopped one by one
 * by virtio_serve_start() and virtio_serve_stop(). Why not, or NULL. v->lock held ----
 */
const char *virtio_adopt_features(struct virtio_device *v, uint64_t features);
/* Whatever was adopted is over; all queues stop. v->lock held. */
void virtio_disown(struct virtio_device *v);

/* ---- for data planes that take a queue over (vhost) ---- */

/* May the queue be worked on now, by whoever has it? q->lock held. */
static inline bool virtio_queue_due(const struct virtio_queue *q)
{
	return q->running && !q->held;
}

/* … by us? */
static inline bool virtio_queue_ours(const struct virtio_queue *q)
{
	return virtio_queue_due(q) && !q->outside;
}

/*
 * From now on somebody else hears the doorbell and serves the queue, or we again. No chain is out,
 * and the queue is held or not started.
 */
void virtio_queue_set_outside(struct virtio_queue *q, bool outside);

/* Queues held and drained. */
struct virtq_state virtio_queue_get_state(struct virtio_queue *q);
/* The end of this hold (or the next start) goes on from there. -EINVAL, -EBUSY. */
int virtio_queue_set_state(struct virtio_queue *q, const struct virtq_state *state);

/* ---- from virtio.c to serve.c; they take q->lock ---- */

void virtio_serve_start(struct virtio_queue *q, const struct virtq_config *config, unsigned held);
void virtio_serve_stop(struct virtio_queue *q);
void virtio_serve_hold(struct virtio_queue *q, unsigned held);
void virtio_serve_kicked(void *opaque, uint32_t events); /* callback of q->kick */
/* q->lock need not be held */
void virtio_needs_reset(struct virtio_device *v);

#endif
