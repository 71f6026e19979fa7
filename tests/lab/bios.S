/*
 * As much of a PC BIOS as iPXE's lkrn image needs, for tests/lab/test-ipxe.sh: mvm has no firmware,
 * and that image is a bzImage with nothing but a real-mode entry. In: PVH's start info (Xen's
 * public/arch-x86/hvm/start_info.h) with the image as the first module. It gives every PCI function
 * its addresses, as firmware does, puts the image where the boot protocol wants it (Linux
 * Documentation/arch/x86/boot.rst) and starts it in real mode. Then there are interrupts to call:
 *
 *     10h, 16h   screen and keyboard: both are COM1
 *     11h, 12h   equipment, base memory
 *     15h        memory above 1 MiB: 88h and E820h
 *     18h, 19h   boot something else: there is nothing, so power off
 *     1Ah        ticks; PCI BIOS 2.1: is it there (B101h), configuration space (B108h-B10Dh)
 *
 * Any other service returns with carry set. All of it, and its data, are at the top of base memory,
 * where a BIOS has its extended data area.
 */
#define BIOS_BASE 0x9e000
#define BIOS_SEG  0x9e00
#define BIOS_KIB  7 /* up to 0x9fc00, from where mvm's memory map says reserved */

/* Where things are put. */
#define IVT	   0x0
#define BDA	   0x400
#define STACK	   0x7c00
#define SETUP_BASE 0x10000
#define SETUP_SEG  0x1000
#define HIGH_BASE  0x100000

/* struct hvm_start_info, struct hvm_modlist_entry, struct hvm_memmap_table_entry */
#define PVH_MODULES	   12
#define PVH_MODLIST	   16
#define PVH_CMDLINE	   24
#define PVH_MEMMAP	   40
#define PVH_MEMMAP_ENTRIES 48
#define MODULE_ADDR	   0
#define MODULE_SIZE	   8
#define MEMMAP_ADDR	   0
#define MEMMAP_SIZE	   8
#define MEMMAP_ENTRY	   24
#define MEMMAP_MAX	   32

/* The setup header, as offsets in the image */
#define SETUP_SECTS    0x1f1
#define SETUP_VID_MODE 0x1fa
#define SETUP_MAGIC    0x202
#define SETUP_LOADER   0x210
#define SETUP_CMDLINE  0x228

/* BIOS data area, as offsets in segment 40h */
#define BDA_COM1      0x00
#define BDA_EBDA      0x0e
#define BDA_EQUIPMENT 0x10
#define BDA_BASE_KIB  0x13
#define BDA_MODE      0x49
#define BDA_COLUMNS   0x4a
#define BDA_TICKS     0x6c
#define BDA_LAST_ROW  0x84
#define BDA_CHARACTER 0x85

#define COM1	 0x3f8
#define COM1_LSR 0x3fd
#define LSR_DR	 0x01
#define LSR_THRE 0x20

#define PIC1	 0x20
#define PIC2	 0xa0
#define PIC_EOI	 0x20
#define PIT0	 0x40
#define PIT_MODE 0x43

#define PCI_ADDRESS 0xcf8
#define PCI_DATA    0xcfc
/* mvm's windows (vmm/x86_64/layout.h) */
#define PCI_MEM_BASE 0xc0000000
#define PCI_IO_BASE  0x6000

#define ACPI_SLEEP     0x600
#define ACPI_POWER_OFF 0x34 /* SLP_TYP 5 and SLP_EN */

/* What pushal saves, and the interrupt's own frame above it, from %bp */
#define FRAME_EBX   16
#define FRAME_EDX   20
#define FRAME_ECX   24
#define FRAME_EAX   28
#define FRAME_AH    29
#define FRAME_FLAGS 36
#define FLAGS_CF    0x01
#define FLAGS_ZF    0x40

#define SMAP 0x534d4150

	.section .note.PVH, "a", @note
	.long 4, 4, 18 /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
bios:
	.byte BIOS_KIB, 0, 0, 0 /* an EBDA begins with its size */

/* ---- start: 32-bit, flat --------------------------------------------------------------------- */

	.code32
	.globl start
start:
	cld
	movl $STACK, %esp
	movl %ebx, %ebp
	movl $no_image, %esi
	cmpl $0, PVH_MODULES(%ebp)
	je fail
	call copy_memory_map
	call assign_pci
	call load_image
	call set_vectors
	call set_bios_data
	call set_chips
	jmp to_real_mode

/* Says the string at %esi, and ends. */
fail:
	lodsb
	testb %al, %al
	jz 1f
	movw $COM1, %dx
	outb %al, %dx
	jmp fail
1:	movw $ACPI_SLEEP, %dx
	movb $ACPI_POWER_OFF, %al
	outb %al, %dx
	hlt
	jmp 1b

/* PVH's memory map is E820's with four more bytes an entry. The first one ends where we begin. */
copy_memory_map:
	movl PVH_MEMMAP(%ebp), %esi
	movl PVH_MEMMAP_ENTRIES(%ebp), %eax
	cmpl $MEMMAP_MAX, %eax
	jbe 1f
	movl $MEMMAP_MAX, %eax
1:	movw %ax, memory_map_entries
	imull $MEMMAP_ENTRY, %eax, %ecx
	movl $memory_map, %edi
	rep movsb
	movl $BIOS_BASE, memory_map + MEMMAP_SIZE

	/* INT 15h, 88h: KiB from 1 MiB on, as many as fit */
	movl $memory_map, %esi
1:	cmpl $HIGH_BASE, MEMMAP_ADDR(%esi)
	je 2f
	addl $MEMMAP_ENTRY, %esi
	cmpl %edi, %esi
	jb 1b
	ret
2:	movl MEMMAP_SIZE(%esi), %eax
	shrl $10, %eax
	cmpl $0xfc00, %eax
	jbe 3f
	movl $0xfc00, %eax
3:	movw %ax, extended_kib
	ret

/* Addresses for all BARs of bus 0, the only one, and decoding on. ROMs stay off. */
assign_pci:
	xorl %ebx, %ebx /* device and function, in bits 8 to 15 */
next_function:
	xorl %ecx, %ecx
	call pci_read
	cmpw $0xffff, %ax
	je 5f
	movl $0x10, %ecx
1:	movl $-1, %eax
	call pci_write
	call pci_read
	testl %eax, %eax
	jz 4f
	testb $1, %al
	jnz 2f
	movl %eax, %edx /* what kind it is */
	andl $~0xf, %eax
	movl $next_mem, %esi
	call place
	andb $6, %dl
	cmpb $4, %dl
	jne 4f
	addl $4, %ecx
	xorl %eax, %eax
	call pci_write /* the upper half of 64 bits */
	jmp 4f
2:	andl $~3, %eax
	orl $0xffff0000, %eax
	movl $next_io, %esi
	call place
4:	addl $4, %ecx
	cmpl $0x28, %ecx
	jb 1b
	movl $4, %ecx
	call pci_read
	orl $7, %eax /* I/O, memory, bus master */
	andl $0xffff, %eax
	call pci_write
	/* INTx goes to the I/O APIC only: no line of the 8259. */
	movl $0x3c, %ecx
	call pci_read
	movb $0xff, %al
	call pci_write
5:	addl $0x100, %ebx
	cmpl $0x10000, %ebx
	jb next_function
	ret

/* Gives the BAR with the size mask %eax the next free address of the window at %esi. */
place:
	movl (%esi), %edi
	negl %eax /* the size */
	leal -1(%edi, %eax), %edi
	negl %eax
	andl %eax, %edi
	negl %eax
	addl %edi, %eax
	movl %eax, (%esi)
	movl %edi, %eax
	/* falls through */

/* Register %ecx of the function %ebx; value in %eax */
pci_write:
	call pci_select
	outl %eax, %dx
	popl %edx
	ret
pci_read:
	call pci_select
	inl %dx, %eax
	popl %edx
	ret
pci_select:
	xchgl %edx, (%esp) /* saved for the caller; where to return to */
	pushl %edx
	pushl %eax
	leal 0x80000000(%ebx, %ecx), %eax
	movw $PCI_ADDRESS, %dx
	outl %eax, %dx
	movw $PCI_DATA, %dx
	popl %eax
	ret

/* The real-mode part to SETUP_BASE, the rest to HIGH_BASE; in the header what a loader fills in. */
load_image:
	movl PVH_MODLIST(%ebp), %eax
	movl MODULE_ADDR(%eax), %esi
	movl MODULE_SIZE(%eax), %edx
	cmpl $0x53726448, SETUP_MAGIC(%esi) /* "HdrS" */
	jne 1f
	movzbl SETUP_SECTS(%esi), %ecx
	incl %ecx
	shll $9, %ecx
	subl %ecx, %edx
	jbe 1f
	movl $SETUP_BASE, %edi
	rep movsb
	movl %edx, %ecx
	movl $HIGH_BASE, %edi
	rep movsb
	movb $0xff, SETUP_BASE + SETUP_LOADER /* no number assigned */
	movw $0xffff, SETUP_BASE + SETUP_VID_MODE
	movl PVH_CMDLINE(%ebp), %eax
	movl %eax, SETUP_BASE + SETUP_CMDLINE
	ret
1:	movl $bad_image, %esi
	jmp fail

set_vectors:
	movl $(BIOS_SEG << 16) + (nothing - bios), %eax
	movl $IVT, %edi
	movl $256, %ecx
	rep stosl
	movl $vectors, %esi
1:	xorl %eax, %eax
	lodsw
	xchgl %eax, %ecx /* the interrupt's number */
	lodsw
	movw %ax, IVT(, %ecx, 4)
	cmpl $vectors_end, %esi
	jb 1b
	ret

/* mvm has cleared the page: of equipment and disks there are none, and it is midnight. */
set_bios_data:
	movw $COM1, BDA + BDA_COM1
	movw $BIOS_SEG, BDA + BDA_EBDA
	movw $BIOS_BASE >> 10, BDA + BDA_BASE_KIB
	/* A screen of 80 columns and 25 rows */
	movb $3, BDA + BDA_MODE
	movw $80, BDA + BDA_COLUMNS
	movb $24, BDA + BDA_LAST_ROW
	movw $16, BDA + BDA_CHARACTER
	ret

/*
 * The 8259s' interrupts at 08h and 70h, only the timer's and the cascade open; the 8254 ticks 18.2
 * times a second.
 */
set_chips:
	movl $chip_writes, %esi
	xorl %edx, %edx
1:	lodsb
	movb %al, %dl
	lodsb
	outb %al, %dx
	cmpl $chip_writes_end, %esi
	jb 1b
	ret

to_real_mode:
	lgdt gdt_pointer
	ljmp $8, $(1f - bios)
	.code16
1:	movw $16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %fs
	movw %ax, %gs
	movw %ax, %ss
	movl %cr0, %eax
	andb $~1, %al
	movl %eax, %cr0
	ljmp $BIOS_SEG, $(2f - bios)
2:	lidtl %cs:(ivt_pointer - bios)
	movw $SETUP_SEG, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %fs
	movw %ax, %gs
	movw %ax, %ss
	movw $0xfff0, %sp
	ljmp $SETUP_SEG + 0x20, $0

/* ---- interrupts: 16-bit, real mode ----------------------------------------------------------- */

/* The end of every service: what it returns is in the frame. */
success:
	andb $~FLAGS_CF, FRAME_FLAGS(%bp)
return:
	popal
	iretw
unsupported:
	movb $0x86, FRAME_AH(%bp)
	orb $FLAGS_CF, FRAME_FLAGS(%bp)
	jmp return

other_service:
	pushal
	movw %sp, %bp
	jmp unsupported

nothing:
	iretw

irq0:
	pushw %ds
	pushw %ax
	movw $BDA >> 4, %ax
	movw %ax, %ds
	incl BDA_TICKS
	int $0x1c
	jmp 1f
irq_master:
	pushw %ds
	pushw %ax
	jmp 1f
irq_slave:
	pushw %ds
	pushw %ax
	movb $PIC_EOI, %al
	outb %al, $PIC2
1:	movb $PIC_EOI, %al
	outb %al, $PIC1
	popw %ax
	popw %ds
	iretw

/* Video: 0Eh writes a character; cursor and colours there are none. */
int10:
	pushal
	cmpb $0x0e, %ah
	jne 2f
	movb %al, %ah
	movw $COM1_LSR, %dx
1:	inb %dx, %al
	testb $LSR_THRE, %al
	jz 1b
	movb %ah, %al
	movw $COM1, %dx
	outb %al, %dx
2:	popal
	iretw

int11:
	pushw %ds
	movw $BDA >> 4, %ax
	movw %ax, %ds
	movw BDA_EQUIPMENT, %ax
	popw %ds
	iretw

int12:
	pushw %ds
	movw $BDA >> 4, %ax
	movw %ax, %ds
	movw BDA_BASE_KIB, %ax
	popw %ds
	iretw

/* Keyboard: 01h and 11h look, with ZF for no key; 00h and 10h wait for one. */
int16:
	pushal
	movw %sp, %bp
	movw $COM1_LSR, %dx
	testb $1, %ah
	jnz 2f
	sti
1:	inb %dx, %al
	testb $LSR_DR, %al
	jz 1b
	movw $COM1, %dx
	inb %dx, %al
	movb $0, %ah
	movw %ax, FRAME_EAX(%bp)
	jmp return
2:	andb $~FLAGS_ZF, FRAME_FLAGS(%bp)
	inb %dx, %al
	testb $LSR_DR, %al
	jnz return
	orb $FLAGS_ZF, FRAME_FLAGS(%bp)
	jmp return

int15:
	pushal
	movw %sp, %bp
	cmpb $0x88, %ah
	je 2f
	cmpw $0xe820, %ax
	jne unsupported
	cmpw %cs:(memory_map_entries - bios), %bx
	jae unsupported
	imulw $MEMMAP_ENTRY, %bx, %si
	addw $(memory_map - bios), %si
	movw $20, %cx
	movl $20, FRAME_ECX(%bp)
	movl $SMAP, FRAME_EAX(%bp)
	cld
	rep movsb %cs:(%si), %es:(%di)
	incw %bx
	cmpw %cs:(memory_map_entries - bios), %bx
	jb 1f
	xorw %bx, %bx
1:	movw %bx, FRAME_EBX(%bp)
	jmp success
2:	movw %cs:(extended_kib - bios), %ax
	movw %ax, FRAME_EAX(%bp)
	jmp success

power_off:
	movw $ACPI_SLEEP, %dx
	movb $ACPI_POWER_OFF, %al
	outb %al, %dx
1:	cli
	hlt
	jmp 1b

int1a:
	pushal
	movw %sp, %bp
	cmpb $0xb1, %ah
	je pci_bios
	testb %ah, %ah
	jnz unsupported
	pushw %ds
	movw $BDA >> 4, %ax
	movw %ax, %ds
	movl BDA_TICKS, %eax
	popw %ds
	movw %ax, FRAME_EDX(%bp)
	shrl $16, %eax
	movw %ax, FRAME_ECX(%bp)
	movb $0, FRAME_EAX(%bp) /* no midnight since */
	jmp success

/* %bx: bus, device and function; %di: register; value in %cl, %cx or %ecx */
pci_bios:
	cmpb $0x01, %al
	je 1f
	subb $0x08, %al
	cmpb $5, %al
	ja unsupported
	movzbw %al, %si
	movzwl %bx, %eax
	shll $8, %eax
	orl $0x80000000, %eax
	movw %di, %dx
	movb %dl, %al
	andb $~3, %al
	movw $PCI_ADDRESS, %dx
	outl %eax, %dx
	movw %di, %dx
	andw $3, %dx
	addw $PCI_DATA, %dx
	movl %ecx, %eax
	movb $0, FRAME_AH(%bp)
	shlw $1, %si
	jmp *%cs:(pci_services - bios)(%si)
read_byte:
	inb %dx, %al
	movb %al, FRAME_ECX(%bp)
	jmp success
read_word:
	inw %dx, %ax
	movw %ax, FRAME_ECX(%bp)
	jmp success
read_dword:
	inl %dx, %eax
	movl %eax, FRAME_ECX(%bp)
	jmp success
write_byte:
	outb %al, %dx
	jmp success
write_word:
	outw %ax, %dx
	jmp success
write_dword:
	outl %eax, %dx
	jmp success
1:	movl $0x20494350, FRAME_EDX(%bp) /* "PCI " */
	movw $0x0210, FRAME_EBX(%bp)	 /* version */
	movw $0x0001, FRAME_EAX(%bp)	 /* mechanism 1 */
	movb $0, FRAME_ECX(%bp)		 /* the last bus */
	jmp success

/* ---- data ------------------------------------------------------------------------------------ */

	.balign 8
gdt:
	.quad 0
	.quad 0x00009b09e000ffff /* code, 16-bit, at BIOS_BASE */
	.quad 0x000093000000ffff /* data, 16-bit, at 0 */
gdt_pointer:
	.word . - gdt - 1
	.long gdt
ivt_pointer:
	.word 0x3ff
	.long IVT

next_mem:
	.long PCI_MEM_BASE
next_io:
	.long PCI_IO_BASE

vectors:
	.word 0x08, irq0 - bios
	.irp n, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f
	.word \n, irq_master - bios
	.endr
	.irp n, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77
	.word \n, irq_slave - bios
	.endr
	.word 0x10, int10 - bios
	.word 0x11, int11 - bios
	.word 0x12, int12 - bios
	.word 0x13, other_service - bios
	.word 0x14, other_service - bios
	.word 0x15, int15 - bios
	.word 0x16, int16 - bios
	.word 0x17, other_service - bios
	.word 0x18, power_off - bios
	.word 0x19, power_off - bios
	.word 0x1a, int1a - bios
vectors_end:

pci_services:
	.word read_byte - bios, read_word - bios, read_dword - bios
	.word write_byte - bios, write_word - bios, write_dword - bios

chip_writes: /* port, value */
	.byte PIC1, 0x11, PIC1 + 1, 0x08, PIC1 + 1, 0x04, PIC1 + 1, 0x01, PIC1 + 1, 0xfa
	.byte PIC2, 0x11, PIC2 + 1, 0x70, PIC2 + 1, 0x02, PIC2 + 1, 0x01, PIC2 + 1, 0xff
	.byte PIT_MODE, 0x36, PIT0, 0, PIT0, 0
chip_writes_end:

no_image:
	.asciz "bios: no image to start; --initrd names it\r\n"
bad_image:
	.asciz "bios: the image is no bzImage\r\n"

extended_kib:
	.word 0
memory_map_entries:
	.word 0
	.balign 8
memory_map:
	.space MEMMAP_ENTRY * MEMMAP_MAX
