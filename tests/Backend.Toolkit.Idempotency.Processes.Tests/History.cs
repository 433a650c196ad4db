namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>One request and what came of it; status 0: no answer, or half of one. The instants are those of one monotonic clock.</summary>
internal sealed record Exchange(string Key, string Body, long Sent, long Ended, int Status, string Answer = "", bool IsReplayed = false);

/// <summary>Judges what clients saw, whatever the servers say of themselves.</summary>
internal static class History
{
    /// <returns>A sentence for each rule that is broken.</returns>
    public static List<string> Violations(IEnumerable<Exchange> exchanges) => [.. exchanges.GroupBy(exchange => exchange.Key).SelectMany(OfKey)];

    private static IEnumerable<string> OfKey(IGrouping<string, Exchange> key)
    {
        Exchange[] all = [.. key.OrderBy(exchange => exchange.Ended)];
        if (all.FirstOrDefault(exchange => exchange.Status == 200) is not { } first)
        {
            yield return $"{key.Key} never ended.";
            yield break;
        }

        foreach (Exchange exchange in all)
        {
            bool isSame = exchange.Body == first.Body;
            switch (exchange.Status)
            {
                case 200 when !isSame:
                    yield return $"{key.Key}: two requests that differ were both answered.";
                    break;
                case 200 when exchange.Answer != first.Answer:
                    yield return $"{key.Key}: two answers differ.";
                    break;
                case 200 when exchange != first && exchange.Sent > first.Ended && !exchange.IsReplayed:
                    yield return $"{key.Key}: an answer after the first was not marked as a replay.";
                    break;
                case 422 when !all.Any(other => other.Body != exchange.Body && other.Sent < exchange.Ended):
                    yield return $"{key.Key}: a mismatch, but nobody had sent another request.";
                    break;
                case 422 when isSame && exchange.Sent > first.Ended:
                    yield return $"{key.Key}: a mismatch with the request that was answered.";
                    break;
                case 0 or 200 or 409 or 422:
                    if (!isSame && exchange.Sent > first.Ended && exchange.Status is not (0 or 422))
                    {
                        yield return $"{key.Key}: another request after the answer was told {exchange.Status}, not that it does not match.";
                    }

                    break;
                default:
                    yield return $"{key.Key}: status {exchange.Status}.";
                    break;
            }
        }
    }
}
