"""Dynamic alignment: units, their layers, and the linear maps that they apply."""
