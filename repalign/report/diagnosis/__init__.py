"""The report of a diagnosis: where teacher and student part, and which stages deserve a branch."""
