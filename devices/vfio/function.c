/*
 * A passed-through function's life: made out of an open VFIO device, plugged into the guest's bus,
 * reset with the machine, given back to the host. See function.h. In: the device, the guest's
 * resets, the host's wish to have it back. Out: a device of the machine.
 *
 * The hardware decodes its BARs for as long as it is ours, so a page that the guest has mapped
 * never faults; the guest's own decode bits only say where on its bus the pages are.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/vfio/function.h"
#include "vmm/log.h"

static void unmasked(struct pci_function *f, unsigned vector)
{
	vfio_interrupts_unmasked(vfio_function_of(f), vector);
}

static const struct pci_function_ops function_ops = {
	.config_written = vfio_config_written,
	.config_reading = vfio_config_reading,
	.config_writing = vfio_config_writing,
	.vector_unmasked = unmasked,
};

static struct vfio_function *function_of(struct device *dev)
{
	return (struct vfio_function *)dev; /* first member */
}

static bool gone(const struct vfio_function *vf)
{
	return __atomic_load_n(&vf->gone, __ATOMIC_ACQUIRE);
}

/* ---- reset ----------------------------------------------------------------------------------- */

/* No DMA and no interrupt comes from it when this returns. */
static void stop(struct vfio_function *vf)
{
	int err;

	vfio_interrupts_disable(vf);
	vfio_config_quiet(vf);
	err = vf->vd->ops->reset(vf->vd);
	/* Bus mastering is off, so it does nothing; it may just not be as new. An mdev need not. */
	if (err && !vf->vd->mdev)
		log_guest(&vf->reset_failed, "%s: %s cannot be reset (%s); its driver must cope",
			  vf->dev.name, vf->vd->name, strerror(-err));
	vfio_config_quiet(vf);
}

static void reset(struct device *dev)
{
	struct vfio_function *vf = function_of(dev);

	if (gone(vf))
		return;
	stop(vf);
	pci_function_reset(&vf->f);
	vfio_interrupts_update(vf);
}

void vfio_function_guest_reset(struct vfio_function *vf)
{
	if (!gone(vf))
		reset(&vf->dev);
}

/* ---- the host wants something ---------------------------------------------------------------- */

static void hardware_failed(void *opaque, uint32_t events)
{
	struct vfio_function *vf = opaque;
	uint64_t count;

	(void)events;
	if (read(vf->error.fd, &count, sizeof(count)) != sizeof(count))
		return;
	log_error("%s: the hardware of %s reports a fatal error; the guest goes on without it "
		  "until it resets it",
		  vf->dev.name, vf->vd->name);
}

/* As if it had been pulled out of its slot. */
static void vanish(void *opaque, uint32_t events)
{
	struct vfio_function *vf = opaque;
	uint64_t count;

	(void)events;
	if (read(vf->request.fd, &count, sizeof(count)) != sizeof(count) || gone(vf))
		return;
	log_warn("%s: the host takes %s back; the guest loses it", vf->dev.name, vf->vd->name);
	__atomic_store_n(&vf->gone, true, __ATOMIC_RELEASE);
	pci_function_vanish(&vf->f);
	vfio_interrupts_disable(vf);
	vfio_config_quiet(vf);
	vfio_bars_unmap(vf);
	vf->vd->ops->release(vf->vd);
}

static int watch_one(struct vfio_function *vf, unsigned index, struct event_source *source,
		     void (*callback)(void *opaque, uint32_t events), struct error *e)
{
	int32_t fd;
	int err;

	if (!vf->vd->irq[index].count)
		return 0;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return error_set_errno(e, -errno, "no eventfd");
	*source = (struct event_source){
		.fd = fd, .events = EPOLLIN, .callback = callback, .opaque = vf
	};
	err = event_add(vf->dev.host->loop, source);
	if (!err)
		err = vf->vd->ops->set_irqs(vf->vd, index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &fd);
	return err ? error_set_errno(e, err, "%s: cannot watch it", vf->vd->name) : 0;
}

static int watch(struct vfio_function *vf, struct error *e)
{
	int err = watch_one(vf, VFIO_PCI_ERR_IRQ_INDEX, &vf->error, hardware_failed, e);

	return err ? err : watch_one(vf, VFIO_PCI_REQ_IRQ_INDEX, &vf->request, vanish, e);
}

static void unwatch(struct event_source *source)
{
	event_del(source);
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}

/* ---- making and unmaking --------------------------------------------------------------------- */

static void destroy(struct device *dev)
{
	struct vfio_function *vf = function_of(dev);

	unwatch(&vf->error);
	unwatch(&vf->request);
	if (!gone(vf))
		stop(vf);
	if (vf->f_made)
		pci_function_destroy(&vf->f);
	vfio_interrupts_destroy(vf);
	vfio_bars_destroy(vf);
	vf->vd->ops->close(vf->vd);
	free(vf);
}

static const struct device_ops device_ops = { .reset = reset, .destroy = destroy };

static int check_class(const struct pci_identity *id, enum device_class class, const char *name,
		       struct error *e)
{
	static const struct {
		enum device_class class;
		uint8_t base;
		const char *what;
	} wanted[] = {
		{ CLASS_NET, 0x02, "network controller" },
		{ CLASS_BLK, 0x01, "storage controller" },
		{ CLASS_CONSOLE, 0x07, "serial controller" },
	};
	uint8_t base = (uint8_t)(id->class_code >> 16);
	const char *is = NULL;

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (wanted[i].base == base)
			is = device_class_name(wanted[i].class);
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (wanted[i].class == class && wanted[i].base != base)
			return error_set(
				e, -EINVAL,
				"%s is no %s (its PCI class is %06x); give it to the guest "
				"with --%s=vfio:%s",
				name, wanted[i].what, id->class_code, is ? is : "dev", name);
	return 0;
}

static int build(struct vfio_function *vf, const struct device_config *config, bool rom,
		 struct error *e)
{
	struct pci_identity id;
	int err = vfio_config_read(vf, &id, e);

	if (!err)
		err = check_class(&id, config->row->class, vf->vd->name, e);
	if (err)
		return err;
	pci_function_init(&vf->f, &vf->dev, &id, &function_ops);
	vf->f_made = true;
	err = vfio_bars_create(vf, rom, e);
	if (!err)
		err = vfio_config_build(vf, e);
	if (!err)
		err = vfio_bars_map(vf, e);
	if (!err)
		err = vfio_interrupts_create(vf, e);
	if (!err)
		err = watch(vf, e);
	return err ? err : pci_function_plug(&vf->f, vf->dev.host->pci, -1, e);
}

int vfio_function_create(struct device_host *host, const struct device_config *config,
			 struct vfio_device *vd, bool rom, struct device **out, struct error *e)
{
	struct vfio_function *vf = calloc(1, sizeof(*vf));
	int err;

	if (!vf) {
		vd->ops->close(vd);
		return error_set(e, -ENOMEM, "out of memory");
	}
	device_init(&vf->dev, &device_ops, host, config);
	vf->vd = vd;
	vf->irq.trigger = vf->irq.resample = -1;
	vf->error.fd = vf->request.fd = -1;
	pthread_mutex_init(&vf->irq.lock, NULL);
	err = build(vf, config, rom, e);
	if (err) {
		destroy(&vf->dev);
		return err;
	}
	*out = &vf->dev;
	return 0;
}
