"""The volume controllers: claims find volumes or have them made, volumes whose claim is gone are kept or removed."""
