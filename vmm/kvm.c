/*
 * /dev/kvm and the VM: see kvm.h. Documentation/virt/kvm/api.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm/kvm.h"

#define MAPPINGS_MAX 512 /* slots; 32 functions with six BARs in two parts each need fewer */

static int open_error(int err, struct error *e)
{
	switch (err) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return error_set(
			e, err,
			"/dev/kvm is not there: this CPU or kernel offers no KVM here "
			"(try: modprobe kvm_intel or kvm_amd; inside a VM, enable nesting)");
	case -EACCES:
	case -EPERM:
		return error_set(e, err,
				 "/dev/kvm: permission denied; run as root or join its group: "
				 "usermod -aG kvm $USER, then log in again");
	default:
		return error_set_errno(e, err, "cannot open /dev/kvm");
	}
}

static int retry_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

int kvm_vm_ioctl(const struct kvm *kvm, unsigned long request, void *arg)
{
	return retry_ioctl(kvm->vm, request, arg);
}

int kvm_system_ioctl(const struct kvm *kvm, unsigned long request, void *arg)
{
	return retry_ioctl(kvm->system, request, arg);
}

int kvm_capability(const struct kvm *kvm, long capability)
{
	int ret = retry_ioctl(kvm->vm >= 0 ? kvm->vm : kvm->system, KVM_CHECK_EXTENSION,
			      (void *)capability);

	return ret < 0 ? 0 : ret;
}

int kvm_open(struct kvm *kvm, struct error *e)
{
	int ret;

	*kvm = (struct kvm){ .system = -1, .vm = -1, .vfio = -1 };
	kvm->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->system < 0)
		return open_error(-errno, e);
	ret = kvm_system_ioctl(kvm, KVM_GET_API_VERSION, NULL);
	if (ret != KVM_API_VERSION) {
		kvm_close(kvm);
		return error_set(e, -ENODEV, "/dev/kvm speaks API version %d; mvm needs %d", ret,
				 KVM_API_VERSION);
	}
	kvm->vm = kvm_system_ioctl(kvm, KVM_CREATE_VM, NULL);
	if (kvm->vm < 0) {
		ret = kvm->vm;
		kvm_close(kvm);
		return error_set_errno(e, ret, "/dev/kvm: cannot create a VM");
	}
	ret = kvm_system_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (ret < (int)sizeof(struct kvm_run)) {
		kvm_close(kvm);
		return error_set(e, -ENODEV, "/dev/kvm: vCPU area of %d bytes is too small", ret);
	}
	kvm->run_size = (size_t)ret;
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	if (kvm->vm >= 0)
		close(kvm->vm);
	if (kvm->vfio >= 0)
		close(kvm->vfio);
	if (kvm->system >= 0)
		close(kvm->system);
	free(kvm->cpuid);
	*kvm = (struct kvm){ .system = -1, .vm = -1, .vfio = -1 };
}

int kvm_add_memory(const struct kvm *kvm, const struct guest_memory *memory, struct error *e)
{
	for (unsigned i = 0; i < memory->nregions; i++) {
		const struct memory_region *r = &memory->region[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (uintptr_t)r->host,
		};
		int err = kvm_vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &slot);

		if (err)
			return error_set_errno(
				e, err, "--memory: KVM refuses %llu MiB of RAM at 0x%llx",
				(unsigned long long)r->size >> 20, (unsigned long long)r->gpa);
	}
	return 0;
}

static int set_mapping(void *opaque, unsigned slot, uint64_t gpa, uint64_t size, void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	return kvm_vm_ioctl(opaque, KVM_SET_USER_MEMORY_REGION, &region);
}

static const struct mapping_ops kvm_mapping_ops = { .set = set_mapping };

struct mappings *kvm_create_mappings(struct kvm *kvm, struct error *e)
{
	int slots = kvm_capability(kvm, KVM_CAP_NR_MEMSLOTS);
	struct mappings *m;

	if (slots <= 0)
		slots = 32; /* what every KVM has had */
	if (slots > MAPPINGS_MAX)
		slots = MAPPINGS_MAX;
	m = mappings_create(&kvm_mapping_ops, kvm, MEMORY_MAX_REGIONS,
			    (unsigned)slots - MEMORY_MAX_REGIONS);
	if (!m)
		error_set(e, -ENOMEM, "out of memory");
	return m;
}

static int ioeventfd(const struct kvm *kvm, const struct bus *bus, const struct bus_kick *kick,
		     uint32_t flags)
{
	struct kvm_ioeventfd arg = {
		.addr = kick->addr,
		.len = kick->size,
		.fd = kick->fd,
		.datamatch = kick->value,
		.flags = flags,
	};

	if (kick->match)
		arg.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (bus == kvm->pio)
		arg.flags |= KVM_IOEVENTFD_FLAG_PIO;
	else if (bus != kvm->mmio)
		return -ENOSYS;
	return kvm_vm_ioctl(kvm, KVM_IOEVENTFD, &arg);
}

static int kick_assign(void *opaque, struct bus *bus, const struct bus_kick *kick)
{
	return ioeventfd(opaque, bus, kick, 0);
}

static int kick_deassign(void *opaque, struct bus *bus, const struct bus_kick *kick)
{
	return ioeventfd(opaque, bus, kick, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

/* What is held back is in a ring of one page, see vcpu_posted.c. */
static int coalesce(const struct kvm *kvm, const struct bus *bus, uint64_t addr, uint64_t size,
		    unsigned long request)
{
	struct kvm_coalesced_mmio_zone zone = {
		.addr = addr,
		.size = (uint32_t)size,
		.pio = bus == kvm->pio,
	};

	return kvm->posted_offset ? kvm_vm_ioctl(kvm, request, &zone) : -ENOSYS;
}

static int post(void *opaque, struct bus *bus, uint64_t addr, uint64_t size)
{
	return coalesce(opaque, bus, addr, size, KVM_REGISTER_COALESCED_MMIO);
}

static int unpost(void *opaque, struct bus *bus, uint64_t addr, uint64_t size)
{
	return coalesce(opaque, bus, addr, size, KVM_UNREGISTER_COALESCED_MMIO);
}

static const struct bus_kernel_ops kernel_ops = {
	.assign = kick_assign,
	.deassign = kick_deassign,
	.post = post,
	.unpost = unpost,
};
static const struct bus_kernel_ops kernel_ops_without_kicks = { .post = post, .unpost = unpost };

/* Bytes into a vCPU's mapping; 0: this KVM holds no port writes back. */
static size_t posted_offset(const struct kvm *kvm)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int at = kvm_capability(kvm, KVM_CAP_COALESCED_MMIO);
	size_t offset = at > 0 ? (size_t)at * page : 0;

	return kvm_capability(kvm, KVM_CAP_COALESCED_PIO) > 0 && offset + page <= kvm->run_size
		       ? offset
		       : 0;
}

void kvm_attach_buses(struct kvm *kvm, struct bus *pio, struct bus *mmio, bool kicks)
{
	const struct bus_kernel_ops *ops = kicks ? &kernel_ops : &kernel_ops_without_kicks;

	kvm->pio = pio;
	kvm->mmio = mmio;
	kvm->posted_offset = posted_offset(kvm);
	bus_set_kernel_ops(pio, ops, kvm);
	bus_set_kernel_ops(mmio, ops, kvm);
}
