namespace Shop;

/// <summary>Payments or the customer in a process of its own: it outlives a shop, and several shops share it.</summary>
internal static class Alone
{
    /// <summary>Until Ctrl-C.</summary>
    public static async Task RunAsync(string name, string[] args, TextWriter output)
    {
        IConfiguration configuration = new ConfigurationBuilder().AddJsonFile(Path.Combine(AppContext.BaseDirectory, "appsettings.json")).AddCommandLine(args).Build();
        if (name is not ("payments" or "customer"))
        {
            throw new ArgumentException($"--only must be payments or customer, but is {name}.");
        }

        string folder = Directory.CreateDirectory(configuration["data"] ?? throw new ArgumentException("--only needs --data FOLDER, which keeps what happened.")).FullName;
        string urls = ShopApplication.LoopbackOnly(configuration["urls"] ?? "http://127.0.0.1:0");
        string secret = Neighbours.Secret(configuration, name);
        if (name == "payments")
        {
            string[] hooks = [.. (configuration["shops"] ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries).Select(shop => $"{shop.TrimEnd('/')}{PaymentsService.ShopHook}")];
            await using var payments = new PaymentsService(folder, configuration.GetSection("Webhooks").Bind, urls);
            await payments.StartAsync(CancellationToken.None);
            await Subscriptions.SubscribeAsync(payments.Endpoints, PaymentsService.Audience, hooks, secret, CancellationToken.None);
            await output.WriteLineAsync($"payments  {payments.Address}  (POST /faults, GET /charges)\nCtrl-C stops it.");
            await payments.WaitForShutdownAsync();
        }
        else
        {
            await using var customer = new Customer(folder, secret, urls);
            await customer.StartAsync(CancellationToken.None);
            await output.WriteLineAsync($"customer  {customer.Address}  (GET /received, POST /broken?value=true)\nCtrl-C stops it.");
            await customer.WaitForShutdownAsync();
        }
    }
}
