using System.Net;
using Backend.Toolkit.Webhooks;

/// <summary>A receiver in a process of its own, to be killed: it verifies, and writes what it accepted to a file before it answers: "effect" the first time, "repeat" after that.</summary>
internal static class WebhookReceiver
{
    public const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// <param name="args">A port and a file.</param>
    public static async Task<int> RunAsync(string[] args)
    {
        using var listener = new HttpListener();
        listener.Prefixes.Add($"http://127.0.0.1:{args[0]}/");
        listener.Start();
        var verifier = new WebhookVerifier(new WebhookVerifierOptions { Name = "receiver", Keys = { new WebhookKey(Secret) } });
        var seen = File.Exists(args[1]) ? File.ReadLines(args[1]).Where(line => line.EndsWith('.')).Select(line => line.Split(' ')[1].TrimEnd('.')).ToHashSet() : [];
        await using var file = new FileStream(args[1], FileMode.Append, FileAccess.Write, FileShare.ReadWrite);

        // A line that was cut short by a kill is ended, so that the next one is whole.
        await file.WriteAsync("\n"u8.ToArray());
        var gate = new SemaphoreSlim(1);
        Console.WriteLine("ready");
        while (true)
        {
            HttpListenerContext context = await listener.GetContextAsync();
            _ = Task.Run(async () =>
            {
                using var body = new MemoryStream();
                await context.Request.InputStream.CopyToAsync(body);
                WebhookVerification verification = verifier.Verify(context.Request.Headers, static (headers, name) => headers[name], body.ToArray());
                if (verification == WebhookVerification.Valid)
                {
                    string id = context.Request.Headers["webhook-id"]!;
                    await gate.WaitAsync();
                    try
                    {
                        await file.WriteAsync(System.Text.Encoding.ASCII.GetBytes($"{(seen.Add(id) ? "effect" : "repeat")} {id}.\n"));
                        await file.FlushAsync();
                    }
                    finally
                    {
                        gate.Release();
                    }
                }

                context.Response.StatusCode = verification == WebhookVerification.Valid ? 200 : 401;
                context.Response.Close();
            });
        }
    }
}
