/* lost_update of benchmarks/small.py: TASKS tasks count to ROUNDS without a lock. As there, each access is one step. */
byte x;

active [TASKS] proctype count()
{
	byte round, value;

	do
	:: value = x;
	   atomic { x = value + 1; round++; if :: round == ROUNDS -> break :: else fi }
	od
}
