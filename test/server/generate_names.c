/*
 * generate_names.c
 *	  Names, streets and companies from all over the world: with umlauts,
 *	  apostrophes, several alphabets and both writing directions, because members
 *	  have such names.
 */
#include "generate_names.h"

const Culture cultures[] = {
	{
		"Germany", "+49 30", "%s & Söhne GmbH", false,
		{{"Jürgen", "juergen"}, {"Käthe", "kaethe"}, {"Björn", "bjoern"}, {"Anneliese", "anneliese"},
		{"Günther", "guenther"}, {"Sabine", "sabine"}, {"Jörg", "joerg"}, {"Heike", "heike"},
		{"Lukas", "lukas"}, {"Änne", "aenne"}},
		{{"Müller", "mueller"}, {"Schäfer", "schaefer"}, {"Weiß", "weiss"}, {"Großmann", "grossmann"},
		{"Köhler", "koehler"}, {"von der Heide", "vonderheide"}, {"Böhm", "boehm"}, {"Krüger", "krueger"},
		{"Schmidt-Rößler", "schmidt-roessler"}, {"Vogt", "vogt"}},
		{{"Schönhauser Allee", "10119", "Berlin"}, {"Große Bleichen", "20354", "Hamburg"},
		{"Königsallee", "40212", "Düsseldorf"}, {"Löwengasse", "60385", "Frankfurt am Main"}}
	},
	{
		"United Kingdom", "+44 20", "%s Partners Ltd", false,
		{{"Ada", "ada"}, {"Oliver", "oliver"}, {"Niamh", "niamh"}, {"George", "george"}, {"Siân", "sian"},
		{"Zoë", "zoe"}, {"Callum", "callum"}, {"Imogen", "imogen"}, {"Rhys", "rhys"}, {"Maeve", "maeve"}},
		{{"Lovelace", "lovelace"}, {"O'Brien", "obrien"}, {"Smith", "smith"}, {"Okafor-Hughes", "okafor-hughes"},
		{"MacGregor", "macgregor"}, {"D'Arcy", "darcy"}, {"Bennett", "bennett"}, {"St. John", "stjohn"},
		{"Whitcombe", "whitcombe"}, {"Patel", "patel"}},
		{{"Curtain Road", "EC2A 3AH", "London"}, {"Deansgate", "M3 2BW", "Manchester"},
		{"Princes Street", "EH2 2AN", "Edinburgh"}, {"Queen's Road", "BS8 1QE", "Bristol"}}
	},
	{
		"France", "+33 1", "Atelier %s SARL", false,
		{{"Chloé", "chloe"}, {"François", "francois"}, {"Jean-Noël", "jean-noel"}, {"Hélène", "helene"},
		{"Maël", "mael"}, {"Aurélie", "aurelie"}, {"Loïc", "loic"}, {"Inès", "ines"}, {"Théo", "theo"},
		{"Garance", "garance"}},
		{{"Lefèvre", "lefevre"}, {"Bérenger", "berenger"}, {"de La Fontaine", "delafontaine"}, {"Garçon", "garcon"},
		{"L'Hôte", "lhote"}, {"Dubois", "dubois"}, {"Œuvrard", "oeuvrard"}, {"Mercier", "mercier"},
		{"Noël", "noel"}, {"Châtelain", "chatelain"}},
		{{"rue de la Fidélité", "75010", "Paris"}, {"cours Lafayette", "69003", "Lyon"},
		{"allée Jean-Jaurès", "31000", "Toulouse"}, {"place de l'Étoile", "67000", "Strasbourg"}}
	},
	{
		"Poland", "+48 22", "Pracownia %s Sp. z o.o.", false,
		{{"Łukasz", "lukasz"}, {"Małgorzata", "malgorzata"}, {"Paweł", "pawel"}, {"Agnieszka", "agnieszka"},
		{"Świętosław", "swietoslaw"}, {"Żaneta", "zaneta"}, {"Michał", "michal"}, {"Bożena", "bozena"},
		{"Grażyna", "grazyna"}, {"Jędrzej", "jedrzej"}},
		{{"Wiśniewski", "wisniewski"}, {"Dąbrowska", "dabrowska"}, {"Wójcik", "wojcik"}, {"Zieliński", "zielinski"},
		{"Łęcki", "lecki"}, {"Kwaśniewska", "kwasniewska"}, {"Żuraw", "zuraw"}, {"Nowak", "nowak"},
		{"Brzęczyszczykiewicz", "brzeczyszczykiewicz"}, {"Gołąb", "golab"}},
		{{"ul. Świętokrzyska", "00-001", "Warszawa"}, {"ul. Długa", "31-146", "Kraków"},
		{"ul. Łąkowa", "80-743", "Gdańsk"}, {"ul. Piłsudskiego", "90-307", "Łódź"}}
	},
	{
		"Türkiye", "+90 212", "%s Yazılım A.Ş.", false,
		{{"Ayşe", "ayse"}, {"Çağla", "cagla"}, {"İsmail", "ismail"}, {"Gökhan", "gokhan"}, {"Şebnem", "sebnem"},
		{"Işıl", "isil"}, {"Oğuz", "oguz"}, {"Ümit", "umit"}, {"Deniz", "deniz"}, {"Nazlı", "nazli"}},
		{{"Yılmaz", "yilmaz"}, {"Öztürk", "ozturk"}, {"Çelik", "celik"}, {"Şahin", "sahin"}, {"Aydın", "aydin"},
		{"Kılıç", "kilic"}, {"Güneş", "gunes"}, {"Doğan", "dogan"}, {"Koç", "koc"}, {"İnce", "ince"}},
		{{"İstiklal Caddesi", "34430", "İstanbul"}, {"Atatürk Bulvarı", "06420", "Ankara"},
		{"Kıbrıs Şehitleri Caddesi", "35220", "İzmir"}, {"Çekirge Caddesi", "16070", "Bursa"}}
	},
	{
		"Vietnam", "+84 24", "Công ty %s", true,
		{{"Văn Đức", "vanduc"}, {"Thị Hương", "thihuong"}, {"Quốc Bảo", "quocbao"}, {"Ngọc Ánh", "ngocanh"},
		{"Minh Tuấn", "minhtuan"}, {"Thùy Linh", "thuylinh"}, {"Hữu Phước", "huuphuoc"}, {"Kim Yến", "kimyen"},
		{"Đình Khôi", "dinhkhoi"}, {"Mỹ Duyên", "myduyen"}},
		{{"Nguyễn", "nguyen"}, {"Trần", "tran"}, {"Lê", "le"}, {"Phạm", "pham"}, {"Hoàng", "hoang"},
		{"Đặng", "dang"}, {"Bùi", "bui"}, {"Đỗ", "do"}, {"Võ", "vo"}, {"Dương", "duong"}},
		{{"phố Hàng Bông", "100000", "Hà Nội"}, {"đường Lê Lợi", "700000", "Thành phố Hồ Chí Minh"},
		{"đường Bạch Đằng", "550000", "Đà Nẵng"}, {"đường Trần Hưng Đạo", "530000", "Huế"}}
	},
	{
		"Greece", "+30 21", "%s Α.Ε.", false,
		{{"Ελένη", "eleni"}, {"Γιώργος", "giorgos"}, {"Κωνσταντίνος", "konstantinos"}, {"Αικατερίνη", "aikaterini"},
		{"Δημήτρης", "dimitris"}, {"Ζωή", "zoi"}, {"Σωτήρης", "sotiris"}, {"Φωτεινή", "fotini"},
		{"Νίκος", "nikos"}, {"Ιφιγένεια", "ifigeneia"}},
		{{"Παπαδόπουλος", "papadopoulos"}, {"Αγγελίδου", "angelidou"}, {"Οικονόμου", "oikonomou"},
		{"Κωστόπουλος", "kostopoulos"}, {"Βλάχου", "vlachou"}, {"Μακρής", "makris"}, {"Θεοδώρου", "theodorou"},
		{"Ζαφειρίου", "zafeiriou"}, {"Χατζηγιάννης", "chatzigiannis"}, {"Ξένου", "xenou"}},
		{{"Ερμού", "105 63", "Αθήνα"}, {"Τσιμισκή", "546 23", "Θεσσαλονίκη"},
		{"Κορίνθου", "262 21", "Πάτρα"}, {"25ης Αυγούστου", "712 02", "Ηράκλειο"}}
	},
	{
		"Ukraine", "+380 44", "ТОВ «%s»", false,
		{{"Олена", "olena"}, {"Дмитро", "dmytro"}, {"Яна", "yana"}, {"Святослав", "sviatoslav"},
		{"Ганна", "hanna"}, {"Юрій", "yurii"}, {"Щастя", "shchastia"}, {"Тарас", "taras"},
		{"Зінаїда", "zinaida"}, {"Євген", "yevhen"}},
		{{"Шевченко", "shevchenko"}, {"Коваленко", "kovalenko"}, {"Бондаренко", "bondarenko"},
		{"Ткачук", "tkachuk"}, {"Гриценко", "hrytsenko"}, {"Лисенко", "lysenko"}, {"Мельник", "melnyk"},
		{"Об'їжджий", "obizhdzhyi"}, {"Швець", "shvets"}, {"Ющенко", "yushchenko"}},
		{{"вул. Хрещатик", "01001", "Київ"}, {"площа Ринок", "79008", "Львів"},
		{"вул. Дерибасівська", "65026", "Одеса"}, {"вул. Сумська", "61057", "Харків"}}
	},
	{
		"Japan", "+81 3", "株式会社%s", true,
		{{"陽菜", "hina"}, {"翔太", "shota"}, {"美咲", "misaki"}, {"健一", "kenichi"}, {"さくら", "sakura"},
		{"大輔", "daisuke"}, {"結衣", "yui"}, {"蓮", "ren"}, {"千尋", "chihiro"}, {"直樹", "naoki"}},
		{{"佐藤", "sato"}, {"鈴木", "suzuki"}, {"高橋", "takahashi"}, {"田中", "tanaka"}, {"渡辺", "watanabe"},
		{"小林", "kobayashi"}, {"山本", "yamamoto"}, {"斎藤", "saito"}, {"伊藤", "ito"}, {"𠮷野", "yoshino"}},
		{{"渋谷区神南", "150-0041", "東京都"}, {"北区梅田", "530-0001", "大阪市"},
		{"中京区烏丸通", "604-8152", "京都市"}, {"博多区中洲", "810-0801", "福岡市"}}
	},
	{
		"United Arab Emirates", "+971 4", "شركة %s", false,
		{{"فاطمة", "fatima"}, {"محمد", "mohammed"}, {"عائشة", "aisha"}, {"خالد", "khalid"}, {"نور", "noor"},
		{"يوسف", "yousef"}, {"مريم", "maryam"}, {"عبد الله", "abdullah"}, {"ليلى", "layla"}, {"حسن", "hassan"}},
		{{"الهاشمي", "alhashimi"}, {"المنصوري", "almansoori"}, {"الزهراني", "alzahrani"}, {"العلي", "alali"},
		{"القاسمي", "alqasimi"}, {"النعيمي", "alnuaimi"}, {"الشامسي", "alshamsi"}, {"حداد", "haddad"},
		{"خوري", "khoury"}, {"المرزوقي", "almarzooqi"}},
		{{"شارع الشيخ زايد", "00000", "دبي"}, {"شارع الكورنيش", "00000", "أبوظبي"},
		{"شارع الملك فيصل", "00000", "الشارقة"}, {"شارع الاتحاد", "00000", "عجمان"}}
	},
	{
		"India", "+91 80", "%s Technologies Pvt. Ltd.", false,
		{{"आरव", "aarav"}, {"प्रिया", "priya"}, {"Rohan", "rohan"}, {"अनन्या", "ananya"}, {"Vikram", "vikram"},
		{"Lakshmi", "lakshmi"}, {"सुनीता", "sunita"}, {"Arjun", "arjun"}, {"Meera", "meera"}, {"कबीर", "kabir"}},
		{{"शर्मा", "sharma"}, {"Iyer", "iyer"}, {"Venkataraghavan", "venkataraghavan"}, {"गुप्ता", "gupta"},
		{"Nair", "nair"}, {"Reddy", "reddy"}, {"सिंह", "singh"}, {"Banerjee", "banerjee"}, {"Kulkarni", "kulkarni"},
		{"Desai", "desai"}},
		{{"MG Road", "560001", "Bengaluru"}, {"Linking Road", "400050", "Mumbai"},
		{"Connaught Place", "110001", "New Delhi"}, {"Park Street", "700016", "Kolkata"}}
	},
	{
		"Brazil", "+55 11", "%s Soluções Ltda.", false,
		{{"João", "joao"}, {"Conceição", "conceicao"}, {"Antônio", "antonio"}, {"Flávia", "flavia"},
		{"Luís", "luis"}, {"Patrícia", "patricia"}, {"Sebastião", "sebastiao"}, {"Thaís", "thais"},
		{"Caetano", "caetano"}, {"Úrsula", "ursula"}},
		{{"da Silva", "dasilva"}, {"Gonçalves", "goncalves"}, {"Magalhães", "magalhaes"}, {"Araújo", "araujo"},
		{"Fontão", "fontao"}, {"dos Santos", "dossantos"}, {"Leitão", "leitao"}, {"Guimarães", "guimaraes"},
		{"Assunção", "assuncao"}, {"Bragança", "braganca"}},
		{{"Avenida Paulista", "01310-100", "São Paulo"}, {"Rua Visconde de Pirajá", "22410-000", "Rio de Janeiro"},
		{"Rua da Conceição", "50030-230", "Recife"}, {"Rua XV de Novembro", "80020-310", "Curitiba"}}
	}
};

const int	culture_count = (int) (sizeof(cultures) / sizeof(cultures[0]));
