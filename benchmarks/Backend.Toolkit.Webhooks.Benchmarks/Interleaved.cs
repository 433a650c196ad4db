using System.Diagnostics;

namespace Backend.Toolkit.Webhooks.Benchmarks;

/// <summary>The same calls in turns, a few at a time, and the best batch of each: on a machine whose cores are shared, a batch of microseconds is undisturbed now and then, where an iteration of a benchmark is not.</summary>
internal static class Interleaved
{
    public static void Print(TimeSpan each)
    {
        foreach (int size in new[] { 256, 2048, 20_480, 1_048_576 })
        {
            var own = new WebhookBenchmarks { Bytes = size };
            own.Setup();
            (string Name, Action Call)[] calls =
            [
                ("HMACSHA256.HashData", () => own.HmacOfVerify()),
                ("Verify, Standard Webhooks", () => own.Verify()),
                ("Verify in pieces, Standard Webhooks", () => own.VerifyInPieces()),
                ("Verify and replay key, Standard Webhooks", () => own.VerifyWithKey()),
                ("Verify, Stripe", () => own.VerifyStripe()),
                ("Stripe.net, ValidateSignature", own.StripeVerifies),
                ("Verify, GitHub", () => own.VerifyGitHub()),
                ("Octokit.Webhooks", () => own.OctokitVerifies()),
                ("Sign, Standard Webhooks", own.Sign),
                ("Sign, Stripe", own.SignStripe),
                ("Verify, Ed25519", () => own.VerifyEd25519()),
                ("Sign, Ed25519", own.SignEd25519),
            ];
            double[] best = [.. calls.Select(_ => double.MaxValue)];
            long[] bytes = new long[calls.Length];
            int batch = Math.Clamp(80_000 / size, 1, 40);
            long start = Stopwatch.GetTimestamp();
            for (int round = 0; round < 40 || Stopwatch.GetElapsedTime(start) < each; round++)
            {
                for (int i = 0; i < calls.Length; i++)
                {
                    long allocated = GC.GetAllocatedBytesForCurrentThread(), before = Stopwatch.GetTimestamp();
                    for (int call = 0; call < batch; call++)
                    {
                        calls[i].Call();
                    }

                    best[i] = Math.Min(best[i], Stopwatch.GetElapsedTime(before).TotalNanoseconds / batch);
                    bytes[i] = (GC.GetAllocatedBytesForCurrentThread() - allocated) / batch;
                }
            }

            Console.WriteLine($"| {size} B | best, ns | ratio | allocated |");
            Console.WriteLine("|---|---|---|---|");
            for (int i = 0; i < calls.Length; i++)
            {
                Console.WriteLine(FormattableString.Invariant($"| {calls[i].Name} | {best[i]:F0} | {best[i] / best[0]:F3} | {bytes[i]} B |"));
            }
        }
    }
}
