/*
 * A passed-through function's interrupts: VFIO signals an eventfd for each, which is the eventfd of
 * the guest's MSI or MSI-X vector (devices/pci, irq_msi) or of its INTx line. Masking is done on
 * our side of the eventfd: what the hardware sends meanwhile waits there as one pending interrupt.
 *
 * In: what the guest enables in configuration space and unmasks in its MSI-X table. Out:
 * VFIO_DEVICE_SET_IRQS. A vector is asked of the host when the guest first unmasks it, so a table
 * of 2048 costs the host only what is used. PCI Express Base 5.0 section 6.1.4; linux/vfio.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "devices/vfio/function.h"

static int set(struct vfio_function *vf, unsigned index, unsigned action, unsigned start,
	       unsigned count, const int32_t *fd)
{
	return vf->vd->ops->set_irqs(vf->vd, index, action, start, count, fd);
}

static void signal_eventfd(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return; /* full: signalled already */
}

/* True if it was signalled. */
static bool drain(int fd)
{
	uint64_t count;

	return fd >= 0 && read(fd, &count, sizeof(count)) > 0;
}

/* ---- INTx ------------------------------------------------------------------------------------ */

/* The guest has served the line: the hardware may raise it again. */
static void unmask_if_served(struct vfio_function *vf)
{
	pthread_mutex_lock(&vf->irq.lock);
	if (drain(vf->irq.resample))
		set(vf, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL);
	pthread_mutex_unlock(&vf->irq.lock);
}

static void resample_by_hand(void *opaque, uint32_t events)
{
	(void)events;
	unmask_if_served(opaque);
}

void vfio_interrupts_settle(struct vfio_function *vf)
{
	if (__atomic_load_n(&vf->irq.by_hand, __ATOMIC_ACQUIRE))
		unmask_if_served(vf);
}

/* VFIO masks the line when it signals; the guest's end of interrupt unmasks it. */
static int unmask_on_resample(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;
	int32_t fd = q->resample;
	int err;

	if (set(vf, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, &fd) == 0)
		return 0;
	/* Once added it stays, and does nothing while the line is off: removing it would wait for
	 * the main thread, which may be waiting for this vCPU. */
	if (q->by_hand)
		return 0;
	q->resample_by_hand = (struct event_source){
		.fd = q->resample,
		.events = EPOLLIN,
		.callback = resample_by_hand,
		.opaque = vf,
	};
	err = event_add(vf->dev.host->loop, &q->resample_by_hand);
	if (!err)
		__atomic_store_n(&q->by_hand, true, __ATOMIC_RELEASE);
	return err;
}

static int enable_intx(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;
	int32_t fd = q->trigger;
	int err;

	if (q->trigger < 0)
		return 0;
	drain(q->trigger);
	drain(q->resample);
	err = pci_intx_bind(&vf->f, q->trigger, q->resample);
	if (err)
		return err;
	err = set(vf, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &fd);
	if (!err)
		err = unmask_on_resample(vf);
	if (err)
		pci_intx_unbind(&vf->f, q->trigger);
	return err;
}

static void disable_intx(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;

	if (q->trigger < 0)
		return;
	set(vf, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL);
	pci_intx_unbind(&vf->f, q->trigger);
}

/* ---- MSI ------------------------------------------------------------------------------------- */

static int enable_msi(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;
	unsigned n = pci_msi_enabled(&vf->f);
	int err;

	if (n > q->vectors)
		n = q->vectors;
	for (unsigned i = 0; i < n; i++)
		q->fd[i] = pci_msi_eventfd(&vf->f, i);
	err = set(vf, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, n, q->fd);
	/* The host has fewer left: with one vector most drivers still work. */
	if (err == -ENOSPC && n > 1)
		err = set(vf, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, q->fd);
	q->enabled = err ? 0 : n;
	return err;
}

/* ---- MSI-X ----------------------------------------------------------------------------------- */

/* All that are used, in one call; at least one vector, so that the hardware is in MSI-X mode. */
static int enable_msix(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;
	unsigned n = 1;
	int err;

	for (unsigned i = 0; i < q->vectors; i++)
		if (q->used[i])
			n = i + 1;
	for (unsigned i = 0; i < n; i++)
		q->fd[i] = q->used[i] ? pci_msix_eventfd(&vf->f, i) : -1;
	err = set(vf, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, n, q->fd);
	q->enabled = err ? 0 : n;
	return err;
}

static void disable_message(struct vfio_function *vf, unsigned index)
{
	if (vf->irq.enabled)
		set(vf, index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL);
	vf->irq.enabled = 0;
}

/* One more vector. Kernels before 6.5 cannot add one beyond those that there were at first. */
static int add_vector(struct vfio_function *vf, unsigned vector)
{
	struct vfio_interrupts *q = &vf->irq;
	bool fixed = vf->vd->irq[VFIO_PCI_MSIX_IRQ_INDEX].flags & VFIO_IRQ_INFO_NORESIZE;
	int32_t fd;
	int err;

	q->used[vector] = true;
	if (q->enabled && (vector < q->enabled || !fixed)) {
		fd = pci_msix_eventfd(&vf->f, vector);
		if (fd < 0)
			return fd;
		err = set(vf, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, vector, 1, &fd);
		if (!err && vector >= q->enabled)
			q->enabled = vector + 1;
		return err;
	}
	disable_message(vf, VFIO_PCI_MSIX_IRQ_INDEX);
	err = enable_msix(vf);
	/* What was sent in between is lost: one too many does no harm, one too few does. */
	for (unsigned i = 0; !err && i < q->enabled; i++)
		if (i != vector)
			signal_eventfd(q->fd[i]);
	return err;
}

/* ---- the guest's wishes ---------------------------------------------------------------------- */

static void disable(struct vfio_function *vf)
{
	switch (vf->irq.mode) {
	case VFIO_IRQ_NONE:
		break;
	case VFIO_IRQ_INTX:
		disable_intx(vf);
		break;
	case VFIO_IRQ_MSI:
		disable_message(vf, VFIO_PCI_MSI_IRQ_INDEX);
		break;
	case VFIO_IRQ_MSIX:
		disable_message(vf, VFIO_PCI_MSIX_IRQ_INDEX);
		break;
	}
	vf->irq.mode = VFIO_IRQ_NONE;
}

static void enable(struct vfio_function *vf, enum vfio_irq_mode mode)
{
	struct vfio_interrupts *q = &vf->irq;
	int err = 0;

	switch (mode) {
	case VFIO_IRQ_NONE:
		break;
	case VFIO_IRQ_INTX:
		err = enable_intx(vf);
		break;
	case VFIO_IRQ_MSI:
		err = enable_msi(vf);
		break;
	case VFIO_IRQ_MSIX:
		/* Those that the guest unmasked before it enabled MSI-X are in use from now on. */
		for (unsigned i = 0; i < q->vectors; i++)
			q->used[i] = !pci_msix_masked(&vf->f, i);
		err = enable_msix(vf);
		break;
	}
	q->mode = mode;
	if (err)
		log_guest(&q->failed, "%s: %s: the host gives no interrupts: %s", vf->dev.name,
			  vf->vd->name, strerror(-err));
}

static enum vfio_irq_mode wanted(struct vfio_function *vf)
{
	if (__atomic_load_n(&vf->gone, __ATOMIC_ACQUIRE))
		return VFIO_IRQ_NONE;
	if (pci_msix_enabled(&vf->f))
		return VFIO_IRQ_MSIX;
	if (pci_msi_enabled(&vf->f))
		return VFIO_IRQ_MSI;
	return vf->irq.trigger >= 0 ? VFIO_IRQ_INTX : VFIO_IRQ_NONE;
}

void vfio_interrupts_update(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;
	enum vfio_irq_mode mode;

	pthread_mutex_lock(&q->lock);
	mode = wanted(vf);
	if (mode != q->mode ||
	    (mode == VFIO_IRQ_MSI && pci_msi_enabled(&vf->f) != q->enabled && q->enabled)) {
		disable(vf);
		enable(vf, mode);
	}
	pthread_mutex_unlock(&q->lock);
}

void vfio_interrupts_disable(struct vfio_function *vf)
{
	pthread_mutex_lock(&vf->irq.lock);
	disable(vf);
	pthread_mutex_unlock(&vf->irq.lock);
}

void vfio_interrupts_unmasked(struct vfio_function *vf, unsigned vector)
{
	struct vfio_interrupts *q = &vf->irq;

	pthread_mutex_lock(&q->lock);
	if (q->mode == VFIO_IRQ_MSIX && vector < q->vectors && !q->used[vector]) {
		int err = add_vector(vf, vector);

		if (err)
			log_guest(&q->failed, "%s: %s: the host gives no vector %u: %s",
				  vf->dev.name, vf->vd->name, vector, strerror(-err));
	}
	pthread_mutex_unlock(&q->lock);
}

/* ---- making and unmaking --------------------------------------------------------------------- */

int vfio_interrupts_create(struct vfio_function *vf, struct error *e)
{
	struct vfio_interrupts *q = &vf->irq;

	q->vectors =
		vf->f.msix.vectors > vf->f.msi.vectors ? vf->f.msix.vectors : vf->f.msi.vectors;
	if (q->vectors) {
		q->used = calloc(q->vectors, sizeof(*q->used));
		q->fd = calloc(q->vectors, sizeof(*q->fd));
		if (!q->used || !q->fd)
			return error_set(e, -ENOMEM, "out of memory");
	}
	if (vf->f.has_intx) {
		q->trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q->resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->trigger < 0 || q->resample < 0)
			return error_set_errno(e, -errno, "no eventfd");
	} else if (!q->vectors && vf->config.hw[PCI_INTERRUPT_PIN] && !vf->vd->vf) {
		return error_set(e, -ENOTSUP,
				 "%s has no interrupt but a line (INTx), which this interrupt chip "
				 "cannot take from hardware; use --irqchip=kernel",
				 vf->vd->name);
	}
	return 0;
}

void vfio_interrupts_destroy(struct vfio_function *vf)
{
	struct vfio_interrupts *q = &vf->irq;

	event_del(&q->resample_by_hand);
	if (q->trigger >= 0)
		close(q->trigger);
	if (q->resample >= 0)
		close(q->resample);
	free(q->used);
	free(q->fd);
	pthread_mutex_destroy(&q->lock);
}
