/// <summary>What a client keeps of each of 2 000 authorities that it called once: heap after a full collection, against the same calls to one authority.</summary>
internal static class BytesPerAuthority
{
    private const int Authorities = 2_000;

    public static int Run()
    {
        Console.WriteLine($"OutboundPolicy, capped at 1 000          {Measure("ours"),8:0} bytes per authority");
        Console.WriteLine($"OutboundPolicy, capped at 2 000          {Measure("ours-2000"),8:0} bytes per authority");
        Console.WriteLine($"standard handler, pipeline by authority  {Measure("standard-by-authority"),8:0} bytes per authority");
        return 0;
    }

    private static double Measure(string client)
    {
        Call(client, 1);
        long one = Call(client, 1);
        return (Call(client, Authorities) - one) / (double)Authorities;
    }

    private static long Call(string name, int authorities)
    {
        using var clients = new Clients(() => new InMemory());
        using HttpMessageInvoker client = clients[name];
        for (int i = 0; i < Authorities; i++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, $"http://host-{i % authorities}.internal/");
            client.SendAsync(request, CancellationToken.None).GetAwaiter().GetResult().Dispose();
        }

        long kept = GC.GetTotalMemory(forceFullCollection: true);
        GC.KeepAlive(clients);
        return kept;
    }
}
