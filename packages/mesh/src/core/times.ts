/** Durations and counts of membership, in milliseconds where not said otherwise. MESH-PROTOCOL M1–M8 gives the reasons. */
export interface MembershipTimes {
  /** The core wants an input this often … */
  readonly tickMs: number;
  /** … and this often while it is in touch with everybody and doubts nobody. */
  readonly calmTickMs: number;
  /** An input that comes so much later than that means that this process slept. */
  readonly lateMs: number;
  /** After a gap nobody is judged for this long: what was sent to us meanwhile is still to be read. */
  readonly barMs: number;
  /** Between two probes by the first and the second watcher of a member, and by everybody else. */
  readonly probeMs: readonly [number, number, number];
  /** Who is to probe us most often and has not been heard for this long is probed itself. */
  readonly unprobedMs: number;
  /** Between two indirect probes of a member we have no link to. */
  readonly probeUnlinkedMs: number;
  /** Within a round: when to ping again, and when to ask others to ping. */
  readonly pingEveryMs: number;
  readonly askOthersAfterMs: number;
  readonly othersAsked: number;
  /** A link over which nothing came for this long, while others heard its end in so many rounds, is given up. */
  readonly muteMs: number;
  readonly muteRounds: number;
  /** A round without an answer fails after this, or 4 smoothed round trips if that is longer. */
  readonly roundMs: number;
  /** A suspicion convicts after this without confirmation … */
  readonly suspicionMsMax: number;
  /** … and after this with all there can be, of which this many count. */
  readonly suspicionMsMin: number;
  readonly confirmationsMax: number;
  /** Whoever suspected first says so this often. */
  readonly repeatMs: number;
  /** Somebody else's suspicion is confirmed if our own pings go unanswered for this long. */
  readonly confirmAfterMs: number;
  /** Without any link the fault is likely ours: soft timers are stretched by this factor. */
  readonly isolatedFactor: number;
  /** Who heard a member this recently does not believe that it is dead. */
  readonly heardMs: number;
  /** A reported death is believed unless somebody denies it within this time … */
  readonly hearsayMs: number;
  /** … meanwhile asked about this often … */
  readonly hearsayAgainMs: number;
  /** … and passed on once in this time, unless one's own suspicion is this old: then it is believed at once. */
  readonly hearsayKeptMs: number;
  readonly agreeMs: number;
  /** Nobody that is linked with a suspect can be heard: those few that its name chooses judge it after this. */
  readonly orphanMs: number;
  readonly guardians: number;
  /** … and if they do not, everybody who doubts it too after this: those few may be members that a liar made up. */
  readonly orphanMsMax: number;
  /** A roll is called when this many, and this share of all, were declared dead within a while. */
  readonly rollDeathsMin: number;
  readonly rollDeathsShare: number;
  readonly rollWindowMs: number;
  /** How long answers are gathered, and before when no other roll is called. */
  readonly rollMs: number;
  readonly rollAgainMs: number;
  /** A suspicion that nobody took back or carried through ends after this, where there was never a link. */
  readonly doubtMsMax: number;
  /** Timers this late are a sign of bad health of our own; each sign stretches soft timers by the factor. */
  readonly sluggishMs: number;
  readonly sickFactor: number;
  readonly sickMax: number;
  /** A quiet while after which one sign is forgotten. */
  readonly sickMs: number;
  /** Between two probes of a member that somebody here attends. */
  readonly attendMs: number;
  /** How long a member has to show that it is there when somebody asks whether it is gone. */
  readonly inquiryMs: number;
  /** Who had a link within this time may declare. */
  readonly neighbourMs: number;
  /** Where more seeds than this are known, nodes spread their first dials over 10 ms for each. */
  readonly jitterAbove: number;
  /** Between two refutations of our own. */
  readonly refuteMs: number;
  /** Between the two refused redials that make hard evidence. */
  readonly redialMs: number;
  readonly goneNeeded: number;
  /** Where they have been found, those who hear the member may object for this long, and again after it … */
  readonly objectMs: number;
  /** … or this long, where no more than half of those linked with it found it gone. */
  readonly objectMsMax: number;
  /** Between two dials of the rotation over everybody we have no link to. */
  readonly rotationMs: number;
  /** Between two dials of one alive member, doubling up to the last. */
  readonly retryMs: readonly [number, number];
  /** Who turned us away is left alone for this long. */
  readonly refusedMs: number;
  /** The higher peer id leaves the first dial to the lower one for this long. */
  readonly politeMs: number;
  /**
   * A newcomer that another member vouches for is dialled once nobody has joined for the first of these, at the
   * latest after the second; by the end that leaves the first dial to the other, after the third besides.
   */
  readonly calmMs: number;
  readonly calmMsMax: number;
  readonly waitMs: number;
  readonly dialsMax: number;
  /** Who turned us away for having too many links is left alone for this long. */
  readonly busyMs: number;
  /** Between two plans of the overlay. */
  readonly planMs: number;
  /** A wanted link that the other end is to dial is dialled from here after this. */
  readonly patienceMs: number;
  /** Failed dials in a row after which the overlay looks for others, and for how long: doubling up to the last. */
  readonly avoidAfter: number;
  readonly avoidMs: readonly [number, number];
  /** Between two looks for a link to close; how long one has to be idle, and where there are too many. */
  readonly thinMs: number;
  readonly idleMs: number;
  readonly crowdedMs: number;
  /** A link used within this time is not closed however crowded. */
  readonly usedMs: number;
  /** Neighbours are told whom we are linked with after a change, once more after that, and then this often. */
  readonly tellMs: readonly [number, number, number];
  /** Changes flood at once, then at most this often. */
  readonly floodMs: number;
  /** Between two full tables sent to one peer because digests differ, and how long they must have differed. */
  readonly repairMs: number;
  readonly repairAfterMs: number;
  /** A peer that a third party told of is forgotten unless it can be reached within this time. */
  readonly unverifiedMs: number;
  readonly forgetMs: number;
  /** How long a planned stop waits for the others to have heard of it. */
  readonly farewellMs: number;
}

export const MEMBERSHIP_TIMES: MembershipTimes = {
  tickMs: 100,
  calmTickMs: 500,
  lateMs: 400,
  barMs: 500,
  probeMs: [1_250, 5_000, 60_000],
  unprobedMs: 3_000,
  muteMs: 8_000,
  muteRounds: 3,
  probeUnlinkedMs: 5_000,
  pingEveryMs: 250,
  askOthersAfterMs: 500,
  othersAsked: 3,
  roundMs: 1_000,
  suspicionMsMax: 4_000,
  suspicionMsMin: 2_300,
  confirmationsMax: 2,
  repeatMs: 400,
  confirmAfterMs: 500,
  isolatedFactor: 3,
  heardMs: 2_000,
  hearsayMs: 2_500,
  hearsayAgainMs: 500,
  hearsayKeptMs: 10_000,
  agreeMs: 2_100,
  orphanMs: 5_000,
  guardians: 3,
  orphanMsMax: 15_000,
  rollDeathsMin: 3,
  rollDeathsShare: 0.05,
  rollWindowMs: 5_000,
  rollMs: 1_500,
  rollAgainMs: 5_000,
  doubtMsMax: 20_000,
  sluggishMs: 150,
  sickFactor: 0.5,
  sickMax: 3,
  sickMs: 5_000,
  attendMs: 500,
  inquiryMs: 1_000,
  neighbourMs: 60_000,
  jitterAbove: 50,
  refuteMs: 1_000,
  redialMs: 300,
  goneNeeded: 2,
  objectMs: 150,
  objectMsMax: 600,
  rotationMs: 2_000,
  retryMs: [100, 10_000],
  refusedMs: 30_000,
  politeMs: 500,
  calmMs: 200,
  calmMsMax: 2_000,
  waitMs: 1_000,
  dialsMax: 16,
  busyMs: 10_000,
  planMs: 200,
  patienceMs: 3_000,
  avoidAfter: 2,
  avoidMs: [60_000, 600_000],
  thinMs: 1_000,
  idleMs: 60_000,
  crowdedMs: 5_000,
  usedMs: 10_000,
  tellMs: [1_000, 3_000, 300_000],
  floodMs: 50,
  repairMs: 10_000,
  repairAfterMs: 2_000,
  unverifiedMs: 60_000,
  forgetMs: 24 * 60 * 60 * 1_000,
  farewellMs: 500,
};
