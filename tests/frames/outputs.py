"""Outputs of VASP and Quantum ESPRESSO with what readers look for, as short as they can be."""

from __future__ import annotations

from ase.units import Bohr, GPa, Ry


def rows(vectors):
    return [" ".join(f"{value:.10f}" for value in vector) for vector in vectors]


def vasprun(steps, *, nsw=0, nelm=60, ibrion=2, cycles=12, ended=True):
    """Return the text of a ``vasprun.xml``.

    Parameters
    ----------
    steps
        Pairs of structure and energy (eV per cell), one per ionic step.
    nsw, nelm, ibrion
        What the calculation was allowed.
    cycles
        Electronic steps of the last ionic step.
    ended
        False breaks the file off before its last tag.
    """
    first = steps[0][0]
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<modeling>"]
    lines += ['<kpoints><generation param="Gamma"/><varray name="kpointlist">']
    lines += ['<v>0 0 0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>']
    lines += ["<parameters>"]
    lines += [
        f'<i type="int" name="{name}">{value}</i>'
        for name, value in (("NELM", nelm), ("IBRION", ibrion), ("NSW", nsw))
    ]
    lines += ["</parameters>", '<atominfo><array name="atoms"><set>']
    lines += [f"<rc><c>{symbol} </c><c>1</c></rc>" for symbol in first.symbols]
    lines += ["</set></array></atominfo>", *structure_xml(first, "initialpos")]
    for number, (atoms, energy) in enumerate(steps, start=1):
        inside = f'<i name="e_fr_energy">{energy}</i><i name="e_0_energy">{energy}</i>'
        lines.append("<calculation>")
        n_cycles = cycles if number == len(steps) else 3
        lines += [f"<scstep><energy>{inside}</energy></scstep>"] * n_cycles
        lines += [*structure_xml(atoms), '<varray name="forces">']
        lines += [f"<v>{row}</v>" for row in rows(forces_of(atoms))]
        lines += ["</varray>"]
        if atoms.calc is not None:
            pressure = -10.0 / GPa * atoms.get_stress(voigt=False)
            lines += ['<varray name="stress">', *(f"<v>{row}</v>" for row in rows(pressure))]
            lines += ["</varray>"]
        lines += [f"<energy>{inside}</energy>", "</calculation>"]
    return "\n".join([*lines, "</modeling>"] if ended else lines)


def forces_of(atoms):
    """Return the forces of a structure that has a calculator; of others they are none."""
    return 0.0 * atoms.positions if atoms.calc is None else atoms.get_forces()


def structure_xml(atoms, name=None):
    lines = [f'<structure name="{name}">' if name else "<structure>"]
    lines += ['<crystal><varray name="basis">', *(f"<v>{row}</v>" for row in rows(atoms.cell))]
    lines += ["</varray></crystal>", '<varray name="positions">']
    lines += [f"<v>{row}</v>" for row in rows(atoms.get_scaled_positions())]
    return [*lines, "</varray></structure>"]


def outcar(steps, *, nsw=0, nelm=60, cycles=12, accurate=False, ended=True):
    """Return the text of an ``OUTCAR``; arguments as for `vasprun`."""
    first = steps[0][0]
    kinds = list(dict.fromkeys(first.symbols))
    lines = [f" POTCAR:    PAW_PBE {kind} 01Jan2000" for kind in kinds * 2]
    numbers = " ".join(str(list(first.symbols).count(kind)) for kind in kinds)
    lines += [f"   ions per type =   {numbers}", f"   NELM   =  {nelm};   NELMIN=  2"]
    lines += [f"   NSW    =  {nsw}    number of steps for IOM", "   IBRION =  2    ionic relax"]
    for number, (atoms, energy) in enumerate(steps, start=1):
        n_cycles = cycles if number == len(steps) else 3
        lines += [f"--- Iteration  {number}({n:4d})  ---" for n in range(1, n_cycles + 1)]
        lines += ["      direct lattice vectors                 reciprocal lattice vectors"]
        lines += [f"  {row} 0.0 0.0 0.0" for row in rows(atoms.cell)]
        lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ---"]
        lines += [f" {row} 0.0 0.0 0.0" for row in rows(atoms.positions)]
        lines += ["  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  ---"]
        lines += [f"  free  energy   TOTEN  =  {energy:.8f} eV", ""]
        lines += [f"  energy  without entropy=  {energy:.8f}  energy(sigma->0) =  {energy:.8f}"]
    if accurate:
        lines.append(" reached required accuracy - stopping structural energy minimisation")
    if ended:
        lines.append(" General timing and accounting informations for this job:")
    return "\n".join([*lines, ""])


def pw_forces(atoms):
    """Return forces and stress as ``pw.x`` prints them."""
    forces = rows(forces_of(atoms) * Bohr / Ry)
    lines = ["     Forces acting on atoms (cartesian axes, Ry/au):", ""]
    lines += [f"     atom {n} type  1   force = {row}" for n, row in enumerate(forces, start=1)]
    stress = rows(-atoms.get_stress(voigt=False) * Bohr**3 / Ry)
    lines += ["", "          total   stress  (Ry/bohr**3)          (kbar)     P=   0.00"]
    return lines + [f"   {row}   0.0 0.0 0.0" for row in stress]


def pw_out(steps, *, converged=True, out_of_steps=False, ended=True):
    """Return the output of ``pw.x``; `steps` as for `vasprun`."""
    first = steps[0][0]
    lines = ["     Program PWSCF v.7.2 starts", f"     number of atoms/cell      = {len(first)}"]
    lines += [f"     celldm(1)=   {1 / Bohr:.10f}  celldm(2)=   0.000000", "     crystal axes:"]
    lines += [f"      a({n}) = (  {row} )" for n, row in enumerate(rows(first.cell), start=1)]
    lines += ["     site n.     atom                  positions (alat units)"]
    lines += [
        f"     {n}   {symbol}  tau(   {n}) = (  {row}  )"
        for n, (symbol, row) in enumerate(
            zip(first.symbols, rows(first.positions), strict=True), start=1
        )
    ]
    for number, (atoms, energy) in enumerate(steps):
        if number:
            lines += ["CELL_PARAMETERS (angstrom)", *rows(atoms.cell), ""]
            lines += ["ATOMIC_POSITIONS (angstrom)"]
            lines += [
                f"{symbol} {row}"
                for symbol, row in zip(atoms.symbols, rows(atoms.positions), strict=True)
            ]
        lines += [f"!    total energy              =  {energy / Ry:.8f} Ry"]
        if atoms.calc is not None:
            lines += pw_forces(atoms)
    if not converged:
        lines.append("     convergence NOT achieved after 100 iterations: stopping")
    if out_of_steps:
        lines.append("     The maximum number of steps has been reached.")
    if ended:
        lines.append("   JOB DONE.")
    return "\n".join([*lines, ""])
