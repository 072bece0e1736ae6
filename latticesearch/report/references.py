"""What a paper cites, by what it is cited for. Every DOI leads to the work that is named."""

from __future__ import annotations

from typing import Final

REFERENCES: Final = {
    "ase": "A. H. Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), "
    "doi:10.1088/1361-648X/aa680e",
    "spglib": "A. Togo, K. Shinohara, I. Tanaka, Sci. Technol. Adv. Mater.: Methods 4, 2384822 "
    "(2024), doi:10.1080/27660400.2024.2384822",
    "enumeration": "G. L. W. Hart, R. W. Forcade, Phys. Rev. B 77, 224115 (2008), "
    "doi:10.1103/PhysRevB.77.224115",
    "campaign": "V. Sotskov, E. V. Podryabinkin, A. V. Shapeev, J. Mater. Res. 38 (2023), "
    "arXiv:2306.03989, doi:10.48550/arXiv.2306.03989",
    "mtp": "A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016), doi:10.1137/15M1054183",
    "clusters": "J. M. Sanchez, F. Ducastelle, D. Gratias, Physica A 128, 334 (1984), "
    "doi:10.1016/0378-4371(84)90096-7",
    "paw": "P. E. Blöchl, Phys. Rev. B 50, 17953 (1994), doi:10.1103/PhysRevB.50.17953",
    "gpaw": "J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024), doi:10.1063/5.0182685",
    "gpaw paw": "J. J. Mortensen, L. B. Hansen, K. W. Jacobsen, Phys. Rev. B 71, 035109 (2005), "
    "doi:10.1103/PhysRevB.71.035109",
    "vasp": "G. Kresse, J. Furthmüller, Phys. Rev. B 54, 11169 (1996), "
    "doi:10.1103/PhysRevB.54.11169",
    "vasp paw": "G. Kresse, D. Joubert, Phys. Rev. B 59, 1758 (1999), doi:10.1103/PhysRevB.59.1758",
    "espresso": "P. Giannozzi et al., J. Phys.: Condens. Matter 21, 395502 (2009), "
    "doi:10.1088/0953-8984/21/39/395502",
    "espresso 2017": "P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017), "
    "doi:10.1088/1361-648X/aa8f79",
    "abinit": "X. Gonze et al., Comput. Phys. Commun. 248, 107042 (2020), "
    "doi:10.1016/j.cpc.2019.107042",
    "abinit paw": "M. Torrent, F. Jollet, F. Bottin, G. Zérah, X. Gonze, Comput. Mater. Sci. 42, "
    "337 (2008), doi:10.1016/j.commatsci.2007.07.020",
    "elk": "The Elk Code, elk.sourceforge.io",
    "lapw": "E. Sjöstedt, L. Nordström, D. J. Singh, Solid State Commun. 114, 15 (2000), "
    "doi:10.1016/S0038-1098(99)00577-3",
    "chgnet": "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3",
    "sevenn": "Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857 (2024), "
    "doi:10.1021/acs.jctc.4c00190",
    "emt": "K. W. Jacobsen, P. Stoltze, J. K. Nørskov, Surf. Sci. 366, 394 (1996), "
    "doi:10.1016/0039-6028(96)00816-3",
    "PBE": "J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), "
    "doi:10.1103/PhysRevLett.77.3865",
    "PBESOL": "J. P. Perdew et al., Phys. Rev. Lett. 100, 136406 (2008), "
    "doi:10.1103/PhysRevLett.100.136406",
    "RPBE": "B. Hammer, L. B. Hansen, J. K. Nørskov, Phys. Rev. B 59, 7413 (1999), "
    "doi:10.1103/PhysRevB.59.7413",
    "REVPBE": "Y. Zhang, W. Yang, Phys. Rev. Lett. 80, 890 (1998), doi:10.1103/PhysRevLett.80.890",
    "LDA": "J. P. Perdew, Y. Wang, Phys. Rev. B 45, 13244 (1992), doi:10.1103/PhysRevB.45.13244",
    "LDA PZ": "J. P. Perdew, A. Zunger, Phys. Rev. B 23, 5048 (1981), doi:10.1103/PhysRevB.23.5048",
    "SCAN": "J. Sun, A. Ruzsinszky, J. P. Perdew, Phys. Rev. Lett. 115, 036402 (2015), "
    "doi:10.1103/PhysRevLett.115.036402",
    "R2SCAN": "J. W. Furness et al., J. Phys. Chem. Lett. 11, 8208 (2020), "
    "doi:10.1021/acs.jpclett.0c02405",
    "methfessel-paxton": "M. Methfessel, A. T. Paxton, Phys. Rev. B 40, 3616 (1989), "
    "doi:10.1103/PhysRevB.40.3616",
    "marzari-vanderbilt": "N. Marzari, D. Vanderbilt, A. De Vita, M. C. Payne, Phys. Rev. Lett. "
    "82, 3296 (1999), doi:10.1103/PhysRevLett.82.3296",
    "fermi-dirac": "N. D. Mermin, Phys. Rev. 137, A1441 (1965), doi:10.1103/PhysRev.137.A1441",
    "gaussian": "C.-L. Fu, K.-M. Ho, Phys. Rev. B 28, 5480 (1983), doi:10.1103/PhysRevB.28.5480",
    "d3": "S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010), "
    "doi:10.1063/1.3382344",
    "d3bj": "S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), "
    "doi:10.1002/jcc.21759",
    "hubbard": "S. L. Dudarev et al., Phys. Rev. B 57, 1505 (1998), doi:10.1103/PhysRevB.57.1505",
}
