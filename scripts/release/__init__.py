"""What a release is made of and how it is checked: used by scripts/make-sbom, compare-images and pin-bases.

`parts` lists what lies in an image's root directory, by `python_packages`, `debian` and `java`; `licences` says under
which licence each part is and whether that was reviewed; `sbom` writes it all down. `layers` reads images, `secrets`
looks for what no image may hold, `comparison` says what differs between two, `bases` pins what they are built on.

Nothing of this is installed with Garrison. Only `sbom` needs a package that is not Python's own.
"""
