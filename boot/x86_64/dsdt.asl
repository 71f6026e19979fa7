/*
 * The machine as ACPI describes it (ACPI 6.5 chapters 5, 6 and 19): a PCI Express host bridge, the
 * few legacy devices, and slots for virtio-mmio. The same AML serves every machine: windows, ports
 * and what is present come from the parameter block that acpi.c writes (acpi_params.h).
 */
#include "acpi_params.h"

DefinitionBlock ("dsdt.aml", "DSDT", 2, "MVM", "MVM", 1)
{
    OperationRegion (PARM, SystemMemory, ACPI_PARAMS_BASE, ACPI_PARAMS_SIZE)
    Field (PARM, AnyAcc, NoLock, Preserve)
    {
        Offset (ACPI_PARAM_MEM64_BASE), M64B, 64,
        Offset (ACPI_PARAM_MEM64_SIZE), M64S, 64,
        Offset (ACPI_PARAM_MEM32_BASE), M32B, 32,
        Offset (ACPI_PARAM_MEM32_SIZE), M32S, 32,
        Offset (ACPI_PARAM_IO_BASE),    PIOB, 32,
        Offset (ACPI_PARAM_IO_SIZE),    PIOS, 32,
        Offset (ACPI_PARAM_ECAM_BASE),  ECMB, 32,
        Offset (ACPI_PARAM_ECAM_BUSES), ECMN, 32,
        Offset (ACPI_PARAM_ACPI_PIO),   SLPP, 32,
        Offset (ACPI_PARAM_PANIC_PIO),  PNCP, 32,
        Offset (ACPI_PARAM_UART_PIO),   UARP, 64,
        Offset (ACPI_PARAM_UART_IRQ),   UARI, 32,
        Offset (ACPI_PARAM_VMMIO_BASE), VMIB, 32,
        Offset (ACPI_PARAM_VMMIO_MASK), VMIM, 32,
        Offset (ACPI_PARAM_VMMIO_GSI),  VMIG, 128
    }

    // Power off: SLP_TYP 5 with SLP_EN in the sleep control register (4.8.3.7).
    Name (\_S5, Package () { 5, 0, 0, 0 })

    Scope (\_SB)
    {
        // _STA of a device that is there (6.3.7: present, enabled, shown, working) if Arg0 is not 0.
        Method (STAT, 1, NotSerialized)
        {
            If (Arg0 == 0)
            {
                Return (0)
            }
            Return (0x0F)
        }

        // PCI Express host bridge, segment 0.
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)

            Method (_CRS, 0, Serialized)
            {
                Name (RBUF, ResourceTemplate ()
                {
                    WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                        0, 0, 0, 0, 1, , , BUSN)
                    // CONFIG_ADDRESS and CONFIG_DATA, which the bridge takes itself.
                    IO (Decode16, 0xCF8, 0xCF8, 1, 8)
                    WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0, 0, 1, , , PORT)
                    DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                        NonCacheable, ReadWrite, 0, 0, 0, 0, 1, , , MM32)
                })
                CreateWordField (RBUF, BUSN._MAX, BUSX)
                CreateWordField (RBUF, BUSN._LEN, BUSL)
                BUSX = ECMN - 1
                BUSL = ECMN
                CreateWordField (RBUF, PORT._MIN, PORB)
                CreateWordField (RBUF, PORT._MAX, PORX)
                CreateWordField (RBUF, PORT._LEN, PORL)
                PORB = PIOB
                PORX = PIOB + PIOS - 1
                PORL = PIOS
                CreateDWordField (RBUF, MM32._MIN, MMB)
                CreateDWordField (RBUF, MM32._MAX, MMX)
                CreateDWordField (RBUF, MM32._LEN, MML)
                MMB = M32B
                MMX = M32B + M32S - 1
                MML = M32S
                If (M64S == 0)
                {
                    Return (RBUF)
                }

                Name (HBUF, ResourceTemplate ()
                {
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                        Cacheable, ReadWrite, 0, 0, 0, 0, 1, , , MM64)
                })
                CreateQWordField (HBUF, MM64._MIN, MHB)
                CreateQWordField (HBUF, MM64._MAX, MHX)
                CreateQWordField (HBUF, MM64._LEN, MHL)
                MHB = M64B
                MHX = M64B + M64S - 1
                MHL = M64S
                Return (ConcatenateResTemplate (RBUF, HBUF))
            }

            // INTA … INTD of device N: GSI 16 + (N + pin) % 8, level, active low (6.2.13).
            Method (_PRT, 0, Serialized)
            {
                Local0 = Package (128) {}
                Local1 = 0
                While (Local1 < 128)
                {
                    Local2 = Package (4) { 0, 0, 0, 0 }
                    Local3 = Local1 >> 2 // device
                    Local4 = Local1 & 3  // pin
                    Local2 [0] = (Local3 << 16) | 0xFFFF
                    Local2 [1] = Local4
                    Local2 [3] = 16 + ((Local3 + Local4) & 7)
                    Local0 [Local1] = Local2
                    Local1++
                }
                Return (Local0)
            }

            // Who controls what (PCI Firmware Specification 3.3, 4.5.1). The OS gets the PCI Express
            // capability structures; there is no hot-plug, PME or AER to hand over.
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    CreateDWordField (Arg3, 8, CDW3)
                    If (Arg1 != 1)
                    {
                        CDW1 |= 0x08 // unknown revision
                    }
                    Local0 = CDW3 & 0x10
                    If (Local0 != CDW3)
                    {
                        CDW1 |= 0x10 // some bits were masked
                        CDW3 = Local0
                    }
                }
                Else
                {
                    CDW1 |= 0x04 // unknown UUID
                }
                Return (Arg3)
            }
        }

        // What no other device claims: ECAM (MCFG asks for it to be reserved here), and the sleep
        // and reset registers.
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Method (_CRS, 0, Serialized)
            {
                Name (RBUF, ResourceTemplate ()
                {
                    Memory32Fixed (ReadWrite, 0, 0, ECAM)
                    IO (Decode16, 0, 0, 1, 3, SLPR)
                })
                CreateDWordField (RBUF, ECAM._BAS, ECB)
                CreateDWordField (RBUF, ECAM._LEN, ECL)
                ECB = ECMB
                ECL = ECMN << 20
                CreateWordField (RBUF, SLPR._MIN, SLB)
                CreateWordField (RBUF, SLPR._MAX, SLX)
                SLB = SLPP
                SLX = SLPP
                Return (RBUF)
            }
        }

        // 16550A, port Arg0: present?
        Method (USTA, 1, NotSerialized)
        {
            Return (STAT ((UARP >> (Arg0 << 4)) & 0xFFFF))
        }

        // … and where. COM1 and COM3 have one line, COM2 and COM4 another.
        Method (UCRS, 1, Serialized)
        {
            Name (RBUF, ResourceTemplate ()
            {
                IO (Decode16, 0, 0, 1, 8, PORT)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Shared, , , LINE) { 0 }
            })
            CreateWordField (RBUF, PORT._MIN, PORB)
            CreateWordField (RBUF, PORT._MAX, PORX)
            CreateDWordField (RBUF, LINE._INT, LINI)
            Local0 = (UARP >> (Arg0 << 4)) & 0xFFFF
            PORB = Local0
            PORX = Local0
            LINI = (UARI >> (Arg0 << 3)) & 0xFF
            Return (RBUF)
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Method (_STA) { Return (USTA (0)) }
            Method (_CRS) { Return (UCRS (0)) }
        }
        Device (COM2)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 2)
            Method (_STA) { Return (USTA (1)) }
            Method (_CRS) { Return (UCRS (1)) }
        }
        Device (COM3)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 3)
            Method (_STA) { Return (USTA (2)) }
            Method (_CRS) { Return (UCRS (2)) }
        }
        Device (COM4)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 4)
            Method (_STA) { Return (USTA (3)) }
            Method (_CRS) { Return (UCRS (3)) }
        }

        // CMOS RTC
        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x70, 0x70, 1, 2)
                IRQNoFlags () { 8 }
            })
        }

        // pvpanic: the guest writes here when it panics.
        Device (PNIC)
        {
            Name (_HID, "QEMU0001")
            Method (_STA, 0, NotSerialized)
            {
                Return (STAT (PNCP))
            }
            Method (_CRS, 0, Serialized)
            {
                Name (RBUF, ResourceTemplate ()
                {
                    IO (Decode16, 0, 0, 1, 1, PORT)
                })
                CreateWordField (RBUF, PORT._MIN, PORB)
                CreateWordField (RBUF, PORT._MAX, PORX)
                PORB = PNCP
                PORX = PNCP
                Return (RBUF)
            }
        }

        // virtio-mmio (Virtio 1.2 section 4.2), slot Arg0: present?
        Method (VSTA, 1, NotSerialized)
        {
            Return (STAT ((VMIM >> Arg0) & 1))
        }

        // … and where.
        Method (VCRS, 1, Serialized)
        {
            Name (RBUF, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0, 0x1000, REGS)
                Interrupt (ResourceConsumer, Level, ActiveHigh, Shared, , , LINE) { 0 }
            })
            CreateDWordField (RBUF, REGS._BAS, REGB)
            CreateDWordField (RBUF, LINE._INT, LINI)
            REGB = VMIB + (Arg0 << 12)
            Local0 = VMIG
            LINI = DerefOf (Local0 [Arg0])
            Return (RBUF)
        }

        Device (VM00)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 0)
            Method (_STA) { Return (VSTA (0)) }
            Method (_CRS) { Return (VCRS (0)) }
        }
        Device (VM01)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 1)
            Method (_STA) { Return (VSTA (1)) }
            Method (_CRS) { Return (VCRS (1)) }
        }
        Device (VM02)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 2)
            Method (_STA) { Return (VSTA (2)) }
            Method (_CRS) { Return (VCRS (2)) }
        }
        Device (VM03)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 3)
            Method (_STA) { Return (VSTA (3)) }
            Method (_CRS) { Return (VCRS (3)) }
        }
        Device (VM04)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 4)
            Method (_STA) { Return (VSTA (4)) }
            Method (_CRS) { Return (VCRS (4)) }
        }
        Device (VM05)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 5)
            Method (_STA) { Return (VSTA (5)) }
            Method (_CRS) { Return (VCRS (5)) }
        }
        Device (VM06)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 6)
            Method (_STA) { Return (VSTA (6)) }
            Method (_CRS) { Return (VCRS (6)) }
        }
        Device (VM07)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 7)
            Method (_STA) { Return (VSTA (7)) }
            Method (_CRS) { Return (VCRS (7)) }
        }
        Device (VM08)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 8)
            Method (_STA) { Return (VSTA (8)) }
            Method (_CRS) { Return (VCRS (8)) }
        }
        Device (VM09)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 9)
            Method (_STA) { Return (VSTA (9)) }
            Method (_CRS) { Return (VCRS (9)) }
        }
        Device (VM0A)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 10)
            Method (_STA) { Return (VSTA (10)) }
            Method (_CRS) { Return (VCRS (10)) }
        }
        Device (VM0B)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 11)
            Method (_STA) { Return (VSTA (11)) }
            Method (_CRS) { Return (VCRS (11)) }
        }
        Device (VM0C)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 12)
            Method (_STA) { Return (VSTA (12)) }
            Method (_CRS) { Return (VCRS (12)) }
        }
        Device (VM0D)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 13)
            Method (_STA) { Return (VSTA (13)) }
            Method (_CRS) { Return (VCRS (13)) }
        }
        Device (VM0E)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 14)
            Method (_STA) { Return (VSTA (14)) }
            Method (_CRS) { Return (VCRS (14)) }
        }
        Device (VM0F)
        {
            Name (_HID, "LNRO0005")
            Name (_UID, 15)
            Method (_STA) { Return (VSTA (15)) }
            Method (_CRS) { Return (VCRS (15)) }
        }
    }
}
