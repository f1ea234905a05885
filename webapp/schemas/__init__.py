"""What goes in and out of the services: pydantic models shared by the JSON API and the console's forms.

Laws:  1. Every bound of contracts.bounds is enforced here, with the field's name. 2. An unknown field is an error.
       3. A `...Patch` lists what may change; absent means unchanged, null clears what may be empty. The whole result is
       checked again as a `...New`, so that no sequence of patches reaches what a create would refuse.
"""
